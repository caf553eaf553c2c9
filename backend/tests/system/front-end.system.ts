import { afterAll, expect, test } from 'bun:test'
import { rm } from 'node:fs/promises'
import type { BrowserContext, Page } from 'playwright-core'
import { startBrowser } from '../support/browser.ts'
import { freePort, temporaryDirectory } from '../support/daemon.ts'
import { eventually } from '../support/eventually.ts'
import { codeOf } from '../support/page-code.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { startServer } from '../support/server.ts'

const page = await codeOf('docs/front-end.md')
const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const browser = await startBrowser()
const directories: string[] = []
afterAll(async () => {
  await browser.close()
  await postgres.close()
  for (const directory of directories) await rm(directory, { recursive: true, force: true })
})

const writes = /\/tasks$/ // the path of a POST
const patience = 240_000 // ms; most of it is for npm and the first pages
const tls = { NODE_EXTRA_CA_CERTS: postgres.certificates.authority }

async function newDirectory() {
  const directory = await temporaryDirectory('front-end')
  directories.push(directory)
  return directory
}

/** Runs commands as somebody does who reads the page. */
async function run(directory: string, commands: string, settings: Record<string, string> = {}) {
  const shell = start(directory, `set -e\n${commands}`, settings)
  if ((await shell.exited) !== 0) throw new Error(`${commands}${await shell.output}`)
}

function start(directory: string, commands: string, settings: Record<string, string>) {
  const shell = Bun.spawn(['setpriv', '--pdeathsig=KILL', 'bash', '-c', commands], {
    cwd: directory,
    env: {
      ...process.env,
      CI: '1',
      NEXT_TELEMETRY_DISABLED: '1',
      BETTER_AUTH_TELEMETRY: '0',
      ...settings,
    },
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
  })
  const output = Promise.all([shell.stdout.text(), shell.stderr.text()]).then((texts) =>
    texts.join(''),
  )
  return { exited: shell.exited, output, kill: () => shell.kill('SIGKILL') }
}

async function answers(origin: string): Promise<boolean> {
  return fetch(origin).then(
    () => true,
    () => false,
  )
}

test(
  'the page’s Next.js application signs its users in and keeps their tasks, in two tabs',
  async () => {
    const directory = await newDirectory()
    const [port, apiPort] = [await freePort(), await freePort()]
    const origin = `http://localhost:${port}`
    const api = `http://localhost:${apiPort}`
    const settings = {
      ...tls,
      DATABASE_URL: url,
      BETTER_AUTH_URL: origin,
      BETTER_AUTH_SECRET: 'the secret of the auth server alone',
      NEXT_PUBLIC_API_URL: api,
    }
    const apiSettings = { PORT: String(apiPort), BETTER_AUTH_URL: origin, CORS_ORIGINS: origin }
    let server = await startServer(url, apiSettings)
    await page.writeFiles(directory, (name) => name !== 'auth.ts')
    await Bun.write(`${directory}/public/worker.js`, '// Only there.')
    await run(directory, page.commands('npm install --save-exact next'))
    await run(directory, page.commands('npx -y bun'), settings)
    const next = start(directory, `exec npx next dev --port ${port}`, settings)
    await eventually('the application answers', async () => answers(origin), 60_000)
    await run(directory, 'npx tsc --noEmit')

    const context = await browser.newContext()
    await context.addInitScript(rememberNotifications)
    const asked = follow(context, api)
    const [tab, other] = [await context.newPage(), await context.newPage()]

    // Somebody whom nobody knows.
    await tab.goto(origin)
    await tab.getByRole('button', { name: 'Sign up' }).waitFor()
    expect(asked.refused).toEqual([])
    await signIn(tab, 'Sign up', 'alice@example.com')
    await other.goto(origin)
    await shows([tab, other])

    // The browser asks whether it may remind.
    await context.grantPermissions(['notifications'], { origin })
    for (const each of [tab, other]) {
      await each.getByRole('button', { name: 'Allow reminders' }).click()
      await each.getByRole('button', { name: 'Allow reminders' }).waitFor({ state: 'detached' })
    }

    // The first task, in both tabs.
    await add(tab, 'Buy milk')
    await shows([tab, other], 'Buy milk')
    const rows = async () =>
      postgres.admin`select title, completed from todo_api.tasks where deleted_at is null order by id`
    expect(await rows()).toMatchObject([{ title: 'Buy milk', completed: false }])

    // A proxy's error, and then an answer that is lost: the request is sent again, and done once.
    let lost = 0
    await tab.route(writes, async (route) => {
      if (route.request().method() !== 'POST' || lost > 1) return route.fallback()
      lost += 1
      if (lost === 1) return route.fulfill(answer(origin, 502, '<html>Bad gateway</html>'))
      await route.fetch()
      return route.abort()
    })
    await add(tab, 'Pay the rent')
    await shows([tab, other], 'Buy milk', 'Pay the rent')
    await buttonOf(tab, 'Add', ':enabled').waitFor()
    expect(await titleOf(tab).inputValue()).toBe('')
    expect(lost).toBe(2)
    expect(await rows()).toHaveLength(2)
    asked.refused.length = 0

    // While an answer is awaited nothing is sent twice, and what is typed stays.
    const waiting = Promise.withResolvers<void>()
    await tab.route(writes, async (route) => {
      if (route.request().method() === 'POST') await waiting.promise
      return route.fallback()
    })
    await titleOf(tab).fill('Book a table')
    await titleOf(tab).press('Enter')
    await titleOf(tab).press('Enter')
    await titleOf(tab).fill('Bring wine')
    await titleOf(tab).press('Enter')
    waiting.resolve()
    await shows([tab, other], 'Buy milk', 'Pay the rent', 'Book a table')
    await buttonOf(tab, 'Add', ':enabled').waitFor()
    expect(await titleOf(tab).inputValue()).toBe('Bring wine')
    await titleOf(tab).press('Enter')
    await shows([tab, other], 'Buy milk', 'Pay the rent', 'Book a table', 'Bring wine')
    await remove(other, 'Book a table', 'Bring wine')

    // Refusals are shown, changes appear everywhere, and a reload shows the same.
    await add(other, '   ')
    await other.locator('form').getByRole('alert').waitFor()
    expect(await titleOf(other).inputValue()).toBe('   ')
    await other.getByLabel('Buy milk').click()
    await tab.locator('li', { hasText: 'Buy milk' }).locator('input:checked').waitFor()
    await other.evaluate(
      `[1, 2].forEach(() => [...document.querySelectorAll('li')]
        .find((task) => task.textContent.startsWith('Pay the rent')).querySelector('button').click())`,
    )
    await shows([tab, other], 'Buy milk')
    await tab.reload()
    await shows([tab, other], 'Buy milk')
    expect(await rows()).toMatchObject([{ title: 'Buy milk', completed: true }])
    await eventually('both are answered', async () => asked.refused.length === 2)
    expect(asked.refused).toEqual(['422 POST', '404 DELETE'])
    expect(await other.locator('form').getByRole('alert').count()).toBe(0)

    // A reminder is one notification, whichever tab shows it.
    async function remindOf(title: string) {
      await tab.getByLabel('Remind me at').fill('2126-01-01T09:00')
      await add(tab, title)
      await shows([tab, other], 'Buy milk', title)
      await postgres.admin`update todo_api.reminders set fires_at = now() where change is null`
      await add(other, `After ${title}`)
    }
    await remindOf('Water the plants')
    await eventually('both tabs remind', async () => {
      const all = await Promise.all([tab, other].map(notificationsOf))
      return all.every((shown) => shown.length > 0)
    })
    for (const each of [tab, other])
      expect(await notificationsOf(each)).toEqual([
        { title: 'Water the plants', tag: expect.stringMatching(/^\d+ 20/), body: '' },
      ])
    await remove(other, 'Water the plants', 'After Water the plants')
    await shows([tab, other], 'Buy milk')

    // Without a permission nothing is shown, and nothing thrown. Chrome for Android shows notifications by a
    // service worker alone. No stream ends of either.
    const streams = asked.streams()
    for (const [title, notification] of [
      ['Call home', `class { static permission = 'default' }`],
      [
        'Feed the cat',
        `class {
          static permission = 'granted'
          constructor() { throw new TypeError('Illegal constructor') }
        }`,
      ],
    ] as const) {
      await other.evaluate(`Notification = ${notification}`)
      await remindOf(title)
      await other.waitForFunction(`document.title === 'Reminder: ${title}'`)
      await remove(other, title, `After ${title}`)
    }
    await other.evaluate(
      `navigator.serviceWorker.register('/worker.js').then(() => navigator.serviceWorker.ready).then(() => {})`,
    )
    await remindOf('Feed the dog')
    await other.waitForFunction(
      `navigator.serviceWorker.getRegistration()
        .then((worker) => worker.getNotifications())
        .then((shown) => shown.map(({ title }) => title).join() === 'Feed the dog')`,
    )
    await remove(other, 'Feed the dog', 'After Feed the dog')
    await shows([tab, other], 'Buy milk')
    expect(asked.streams()).toEqual(streams)

    // One stream in each tab, though StrictMode mounts twice.
    await eventually('each tab has one stream', async () => asked.streams().length === 2)

    // A restart of the API is survived.
    await server.end('SIGKILL')
    server = await startServer(url, apiSettings)
    await add(other, 'After the restart')
    await shows([tab, other], 'Buy milk', 'After the restart')

    // Somebody else signs up in one tab, and the token of the other tab runs out.
    await tab.goto(`${origin}/sign-in`)
    await signIn(tab, 'Sign up', 'carol@example.com')
    await add(tab, 'Of Carol')
    await shows([tab], 'Of Carol')
    await other.route(
      writes,
      async (route) => route.fulfill(answer(origin, 401, '{"code":"token_expired","detail":""}')),
      { times: 1 },
    )
    await add(other, 'Of Alice')
    await other.getByRole('heading', { name: 'Tasks of carol@example.com' }).waitFor()
    await shows([tab, other], 'Of Carol')
    expect((await rows()).map(({ title }) => title)).not.toContain('Of Alice')

    // A sign-out that fails is none, and it is shown.
    await tab.route('**/api/auth/sign-out', async (route) => route.abort(), { times: 1 })
    await buttonOf(tab, 'Sign out').click()
    await tab.locator('main > [role=alert]', { hasText: 'You are still signed in' }).waitFor()

    // Signed out while the stream is open: it ends, and nothing is asked any more.
    await tab.getByRole('button', { name: 'Sign out' }).click()
    await tab.getByRole('button', { name: 'Sign in' }).waitFor()
    await other.close()
    await eventually('no stream is open', async () => asked.streams().length === 0)
    await tab.goto(origin)
    await tab.getByRole('button', { name: 'Sign in' }).waitFor()

    // Signed in again; and then the API takes the token no longer, and there is no other.
    await signIn(tab, 'Sign in', 'alice@example.com')
    await shows([tab], 'Buy milk', 'After the restart')
    await context.clearCookies()
    const before = asked.refused.length
    await server.end('SIGKILL')
    server = await startServer(url, {
      ...apiSettings,
      BETTER_AUTH_AUDIENCE: 'https://other.example',
    })
    await tab.getByRole('button', { name: 'Sign in' }).waitFor()
    expect(asked.refused.slice(before)).toEqual(['401 GET'])
    expect(asked.problems).toEqual([])

    next.kill()
    await server.end()
  },
  patience,
)

test(
  'the page’s auth server beside the API signs users in for a front end of another origin',
  async () => {
    const directory = await newDirectory()
    const [port, apiPort] = [await freePort(), await freePort()]
    const authUrl = `http://localhost:${port}`
    const frontEnd = Bun.serve({
      port: 0,
      fetch: async () =>
        new Response('<!doctype html><title>Tasks</title>', {
          headers: { 'content-type': 'text/html' },
        }),
    })
    const settings = { BETTER_AUTH_URL: authUrl, CORS_ORIGINS: ` ${frontEnd.url.origin} ,` }
    const database = await postgres.createDatabase()
    const ownUrl = databaseUrl({ ...postgres, database }, 'sslmode=require&channel_binding=require')
    await Bun.write(`${directory}/package.json`, '{ "private": true }')
    await page.writeFiles(directory, (name) => name === 'auth.ts')
    await run(directory, page.commands('bun add'))
    const auth = start(directory, `exec ${process.execPath} auth.ts`, {
      ...settings,
      ...tls,
      DATABASE_URL: ownUrl,
      BETTER_AUTH_SECRET: 'the secret of the auth server alone',
    })
    await eventually('the auth server answers', async () => answers(authUrl), 30_000)
    const server = await startServer(databaseUrl({ ...postgres, database }, 'sslmode=require'), {
      ...settings,
      PORT: String(apiPort),
    })

    const tab = await browser.newPage()
    await tab.goto(frontEnd.url.href)
    const created = await tab.evaluate(
      `(async () => {
        const post = (path, body) => fetch('${authUrl}/api/auth' + path, {
          method: 'POST', credentials: 'include', body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        })
        const user = { email: 'bob@example.com', password: 'correct horse battery', name: 'Bob' }
        await post('/sign-up/email', user)
        const { token } = await (await fetch('${authUrl}/api/auth/token', { credentials: 'include' })).json()
        const answer = await fetch('http://localhost:${apiPort}/api/tasks', {
          method: 'POST', body: '{"title":"Buy milk"}',
          headers: { 'content-type': 'application/json', authorization: 'Bearer ' + token },
        })
        return answer.status
      })()`,
    )
    expect(created).toBe(201)
    const stranger = await fetch(`${authUrl}/api/auth/get-session`, {
      headers: { origin: 'http://elsewhere.example' },
    })
    expect(stranger.headers.has('access-control-allow-origin')).toBe(false)
    auth.kill()
    await frontEnd.stop(true)
    await server.end()
  },
  patience,
)

/** What the pages of a browser ask the API for, and how it goes. */
function follow(context: BrowserContext, api: string) {
  const refused: string[] = []
  const problems: string[] = []
  const open = new Set<object>()
  context.on('request', (request) => {
    if (request.url().endsWith('/tasks/events') && request.method() === 'GET') open.add(request)
  })
  context.on('requestfinished', (request) => open.delete(request))
  context.on('requestfailed', (request) => open.delete(request))
  context.on('response', (response) => {
    if (response.url().startsWith(api) && response.status() >= 400)
      refused.push(`${response.status()} ${response.request().method()}`)
  })
  context.on('weberror', (error) => problems.push(String(error.error())))
  return { refused, problems, streams: () => [...open] }
}

async function signIn(tab: Page, button: 'Sign up' | 'Sign in', email: string) {
  await tab.getByPlaceholder('Email').fill(email)
  await tab.getByPlaceholder('Password').fill('correct horse battery staple')
  await tab.getByRole('button', { name: button }).click()
  await tab.getByRole('heading', { name: `Tasks of ${email}` }).waitFor()
}

/** An answer that the page of an origin may read, in place of the API's. */
function answer(origin: string, status: number, body: string) {
  const headers = {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': 'Retry-After',
    'retry-after': '0',
  }
  return { status, headers, body }
}

function titleOf(tab: Page) {
  return tab.getByPlaceholder('What is to be done?')
}

function buttonOf(tab: Page, name: string, state = '*') {
  return tab.getByRole('button', { name }).and(tab.locator(state))
}

async function add(tab: Page, title: string) {
  await titleOf(tab).fill(title)
  await buttonOf(tab, 'Add').click()
}

async function remove(tab: Page, ...titles: string[]) {
  for (const title of titles) {
    const task = tab.locator('li', { has: tab.getByText(title, { exact: true }) })
    await task.getByRole('button').click()
    await task.waitFor({ state: 'detached' }) // or the next one's button would move under the click
  }
}

async function shows(tabs: Page[], ...titles: string[]) {
  for (const tab of tabs)
    await tab.waitForFunction(
      `document.querySelector('ul') && [...document.querySelectorAll('li label')].map((label) => label.textContent).join() === ${JSON.stringify(titles.join())}`,
    )
}

/** Keeps what the browser has shown, which the page itself cannot ask for. */
const rememberNotifications = `
  window.shown = []
  window.Notification = class extends Notification {
    constructor(...given) {
      super(...given)
      this.onshow = () => window.shown.push({ title: this.title, tag: this.tag, body: this.body })
    }
  }`

async function notificationsOf(tab: Page): Promise<object[]> {
  return tab.evaluate<object[]>('window.shown')
}
