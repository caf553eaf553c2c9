import { swagger } from '@elysiajs/swagger'
import { Elysia } from 'elysia'
import { version } from '../../package.json'
import { complete, isDocument, type Document } from './document.ts'

const introduction = `Each user's tasks, behind a Better Auth token.

**Trying it out:** in development \`bun run token\` (without Bun, \`npx -y bun@${Bun.version} run token\`)
prints a token; paste it under *Authorize*.

**Errors** have one shape everywhere: \`detail\` for a person, \`code\` for a program, \`request_id\` for
asking us about it; a 422 adds \`errors\`, one per field, and its \`detail\` is the first of them. An unknown path is 404 \`route_not_found\`, a
known path with another method 405 \`method_not_allowed\` with \`Allow\`.

**The same routes answer under \`/api/{user_id}/tasks\`** for front ends that put the user's id into the
path. \`user_id\` must be the token's \`sub\`; any other is 403 \`wrong_user\`.

\`HEAD\` works where \`GET\` does. Every answer carries \`X-Request-Id\`, yours if you send one.`

/** Makes the OpenAPI document from the routes, and serves it at `/docs/json`. */
export function openApi() {
  let completed: Document | undefined
  return new Elysia({ name: 'docs' })
    .onAfterHandle(async function completeDocument({ response, set }) {
      if (!isDocument(response)) return undefined
      set.headers['cache-control'] = 'no-cache'
      // A copy: the plugin adds to its own each time it is asked.
      const copy: Document = completed ?? JSON.parse(JSON.stringify(complete(response)))
      completed = copy
      return copy
    })
    .use(
      swagger({
        path: '/docs',
        specPath: '/docs/json',
        provider: 'swagger-ui',
        exclude: [/^\/docs/, /\{user_id\}/],
        // It takes every path with a dot in it for a file.
        excludeStaticFile: false,
        documentation: {
          openapi: '3.1.0',
          info: {
            title: 'Todo API',
            version,
            description: introduction,
            license: { name: 'MIT', identifier: 'MIT' },
          },
          // Wherever the document was read from.
          servers: [{ url: '/' }],
          tags: [
            { name: 'Tasks', description: 'What a user has to do' },
            { name: 'Sync and live', description: 'What changed, for every device of a user' },
            { name: 'Keys', description: 'What scripts and agents use to act for a user' },
            { name: 'Agents', description: 'The tasks for programs that speak MCP' },
            { name: 'Health', description: 'For whoever runs the server' },
          ],
          components: {
            securitySchemes: {
              bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
              ticket: {
                type: 'apiKey',
                in: 'query',
                name: 'ticket',
                description: 'From POST /api/tasks/events/ticket, in place of a token',
              },
            },
          },
        } as object,
      }),
    )
}
