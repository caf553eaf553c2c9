import { afterAll, expect, test } from 'bun:test'
import { join } from 'node:path'
import { newUser, type TaskBody } from '../support/api.ts'
import { startBrowser } from '../support/browser.ts'
import { freePort } from '../support/daemon.ts'
import { databaseUrl, startPostgres } from '../support/postgres.ts'
import { repository, startServer } from '../support/server.ts'

const postgres = await startPostgres()
const url = databaseUrl(postgres, 'sslmode=require')
const reference = await Bun.file(join(repository, 'docs/api.md')).text()
const [, snippet = ''] = /```js\n(async function keepLive[\s\S]*?)```/.exec(reference) ?? []
const page = Bun.serve({
  port: 0,
  fetch: async () =>
    new Response('<!doctype html><title>Tasks</title><ul></ul>', {
      headers: { 'content-type': 'text/html' },
    }),
})
const browser = await startBrowser()
afterAll(async () => {
  await browser.close()
  await page.stop(true)
  await postgres.close()
})

test('the snippet of docs/api.md keeps two tabs the same, through a restart of the server', async () => {
  expect(snippet.split('\n').length - 1).toBeLessThan(25)
  const { id: user, token } = await newUser()
  const settings = { PORT: String(await freePort()), CORS_ORIGINS: page.url.origin }
  let server = await startServer(url, settings)
  const create = async (title: string) =>
    (await server.request<TaskBody>('POST', '/api/tasks', { token, json: { title } })).body
  const first = await create('First')

  const open = async () => {
    const tab = await browser.newPage()
    await tab.goto(page.url.href)
    await tab.addScriptTag({
      content: `${snippet}
        keepLive('${server.origin}/api', async () => '${token}', (tasks) => {
          document.querySelector('ul').innerHTML = [...tasks.values()].map(({ title }) => '<li>' + title).join('')
        })`,
    })
    return {
      shows: async (...titles: string[]) =>
        tab.waitForFunction(
          `[...document.querySelectorAll('li')].map((li) => li.textContent).join() === ${JSON.stringify(titles.join())}`,
        ),
    }
  }
  const tabs = await Promise.all([open(), open()])
  const bothShow = async (...titles: string[]) =>
    Promise.all(tabs.map(async (tab) => tab.shows(...titles)))

  await bothShow('First')
  const second = await create('Second')
  await bothShow('First', 'Second')
  await server.request('PATCH', `/api/tasks/${second.id}`, {
    token,
    json: { title: 'Second, changed' },
  })
  await bothShow('First', 'Second, changed')
  await server.request('DELETE', `/api/tasks/${first.id}`, { token })
  await bothShow('Second, changed')

  await server.end('SIGKILL')
  server = await startServer(url, settings)
  await create('After the restart')
  await bothShow('Second, changed', 'After the restart')
  const rows =
    await postgres.admin`select title from todo_api.tasks where user_id = ${user} and deleted_at is null`
  expect(rows).toHaveLength(2)
  await server.end()
})
