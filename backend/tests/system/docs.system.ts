import { afterAll, expect, test } from 'bun:test'
import { newUser, startApi } from '../support/api.ts'
import { startBrowser } from '../support/browser.ts'

const api = startApi()
const browser = await startBrowser()
afterAll(async () => {
  await browser.close()
  await api.stop()
})

test('the docs work from our own origin alone: authorize, create a task, see it in the list', async () => {
  const page = await browser.newPage()
  page.setDefaultTimeout(20_000)
  const origins = new Set<string>()
  const problems: string[] = []
  page.on('request', (request) => origins.add(new URL(request.url()).origin))
  page.on('requestfailed', (request) => problems.push(`failed: ${request.url()}`))
  page.on('pageerror', (error) => problems.push(error.message))
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text())
  })

  const blockOf = (method: string, path: string) =>
    page.locator(`.opblock-${method}:has([data-path="${path}"])`)

  async function execute(method: 'get' | 'post', path: string, body?: object) {
    const block = blockOf(method, path)
    await block.locator('.opblock-summary').click()
    if (body) await block.locator('textarea.body-param__text').fill(JSON.stringify(body))
    await block.getByRole('button', { name: 'Execute' }).click()
    const answer = block.locator('.live-responses-table .response')
    return {
      status: await answer.locator('.response-col_status').innerText(),
      body: await answer.locator('.highlight-code').first().innerText(),
    }
  }

  await page.goto(`${api.origin}/docs`)
  await page.locator('.opblock').first().waitFor()
  expect(await page.title()).toBe('Todo API')

  const { token } = await newUser()
  await page.getByRole('button', { name: 'Authorize' }).first().click()
  // The token's part comes first, and then that of a ticket.
  const dialog = page.locator('.modal-ux')
  await dialog.locator('input').first().fill(token)
  await dialog.getByRole('button', { name: 'Apply credentials' }).first().click()
  await dialog.getByRole('button', { name: 'Close' }).first().click()

  // It is there after a reload, too.
  await page.reload()
  await page.locator('.opblock').first().waitFor()

  const title = `Try it out ${crypto.randomUUID()}`
  const created = await execute('post', '/api/tasks', { title })
  expect(created.status).toStartWith('201')
  expect(created.body).toContain(title)
  const listed = await execute('get', '/api/tasks')
  expect(listed.status).toStartWith('200')
  expect(listed.body).toContain(title)

  const update = blockOf('put', '/api/tasks/{id}')
  await update.locator('.opblock-summary').click()
  await update.locator('.responses-table .response').last().waitFor()
  expect((await update.boundingBox())!.height).toBeLessThan(6000)
  expect(await update.innerText()).not.toContain('Examples: 0')
  // Nothing is sent along that nobody typed, such as an If-Match.
  for (const input of await update.locator('.parameters input').all())
    expect(await input.inputValue()).toBe('')

  const create = blockOf('post', '/api/tasks')
  expect(await create.locator('.parameters input').inputValue()).toBe('')
  await create.getByRole('button', { name: 'Reset' }).click()
  expect(JSON.parse(await create.locator('textarea').inputValue())).toEqual({ title: 'Buy milk' })

  expect([...origins]).toEqual([api.origin])
  expect(problems).toEqual([])
})
