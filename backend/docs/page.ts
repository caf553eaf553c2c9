import favicon from 'swagger-ui-dist/favicon-32x32.png' with { type: 'file' }
import script from 'swagger-ui-dist/swagger-ui-bundle.js' with { type: 'file' }
import style from 'swagger-ui-dist/swagger-ui.css' with { type: 'file' }
import { docsSecurityPolicy } from '../http/security-headers.ts'
import ownStyle from './page.css' with { type: 'file' }

/** What the routes of the documentation's pages say of themselves: they are not in the document. */
export const hidden = { detail: { hide: true } }

/** For what may be different after the next deployment. */
const unkept = { 'cache-control': 'no-cache' }

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

/** The address of the server leads to its documentation. */
export async function leadToDocs(): Promise<Response> {
  return new Response(null, { status: 302, headers: { location: '/docs', ...unkept } })
}

/** Swagger UI, with every file that it needs served from here. */
export async function showDocs(): Promise<Response> {
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

export async function sendStartScript(): Promise<Response> {
  return text(startScript, 'text/javascript')
}

export async function sendPageStyle(): Promise<Response> {
  return file(ownStyle, 'text/css')
}

export async function sendSwaggerStyle(): Promise<Response> {
  return file(style, 'text/css')
}

export async function sendSwaggerScript(): Promise<Response> {
  return file(script, 'text/javascript')
}

export async function sendFavicon(): Promise<Response> {
  return file(favicon, 'image/png')
}

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
