import { swagger } from '@elysiajs/swagger'
import { Elysia } from 'elysia'
import favicon from 'swagger-ui-dist/favicon-32x32.png' with { type: 'file' }
import script from 'swagger-ui-dist/swagger-ui-bundle.js' with { type: 'file' }
import style from 'swagger-ui-dist/swagger-ui.css' with { type: 'file' }
import { version } from '../../package.json'
import { docsSecurityPolicy } from '../http/security-headers.ts'
import ownStyle from './page.css' with { type: 'file' }
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

/**
 * The API's documentation: the OpenAPI document at `/docs/json`, made from the routes, and Swagger
 * UI at `/docs`, with every file served from here. `/` leads there.
 */
export function docs() {
  let completed: Document | undefined
  return (
    new Elysia({ name: 'docs' })
      .onAfterHandle(async function completeDocument({ response, set }) {
        if (!isDocument(response)) return undefined
        set.headers['cache-control'] = unkept['cache-control']
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
      .get('/', async () => toDocs(), hidden)
      // In place of the plugin's page, whose script comes from a CDN whatever its options say.
      .get('/docs', async () => htmlPage(), hidden)
      .get('/docs/start.js', async () => text(startScript, 'text/javascript'), hidden)
      .get('/docs/page.css', async () => file(ownStyle, 'text/css'), hidden)
      .get('/docs/swagger-ui.css', async () => file(style, 'text/css'), hidden)
      .get('/docs/swagger-ui-bundle.js', async () => file(script, 'text/javascript'), hidden)
      .get('/docs/favicon.png', async () => file(favicon, 'image/png'), hidden)
  )
}

const hidden = { detail: { hide: true } }

const startScript = `window.ui = SwaggerUIBundle({
  url: '/docs/json',
  dom_id: '#swagger-ui',
  deepLinking: true,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  persistAuthorization: true,
  defaultModelsExpandDepth: 0,
})
`

function toDocs(): Response {
  return new Response(null, { status: 302, headers: { location: '/docs', ...unkept } })
}

function htmlPage(): Response {
  return text(
    `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>Todo API</title>
    <link rel="icon" href="/docs/favicon.png" />
    <link rel="stylesheet" href="/docs/swagger-ui.css" />
    <link rel="stylesheet" href="/docs/page.css" />
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="/docs/swagger-ui-bundle.js"></script>
    <script src="/docs/start.js"></script>
  </body>
</html>
`,
    'text/html',
    { 'content-security-policy': docsSecurityPolicy },
  )
}

/** For what may be different after the next deployment. */
const unkept = { 'cache-control': 'no-cache' }

function text(content: string, type: string, headers: Record<string, string> = {}): Response {
  return new Response(content, {
    headers: { 'content-type': `${type}; charset=utf-8`, ...unkept, ...headers },
  })
}

function file(path: string, type: string): Response {
  return new Response(Bun.file(path), {
    headers: { 'content-type': type, 'cache-control': 'public, max-age=3600' },
  })
}
