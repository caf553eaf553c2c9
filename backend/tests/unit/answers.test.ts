import { expect, test } from 'bun:test'
import { createAnswers } from '../../http/answers.ts'
import { NeedsRoom } from '../../db/written.ts'

test('others have their turns while a large answer is read as fast as it can be', async () => {
  const json = JSON.stringify('x'.repeat(4 * 1024 * 1024))
  const answers = createAnswers({ idleTimeout: 30 })
  const request = new Request('http://localhost/api/tasks')
  const asked = { userId: 'u', set: { headers: {} }, request, server: null }
  const response = await answers.send<unknown>(asked, async (most) => {
    if (most < json.length) throw new NeedsRoom(json.length)
    return { json, bytes: json.length }
  })
  if (!(response instanceof Response)) throw new TypeError('Not a Response')
  let [chunks, turns, isRead] = [0, 0, false]
  setImmediate(function takeTurn() {
    turns += 1
    if (!isRead) setImmediate(takeTurn)
  })
  for await (const _ of response.body!) chunks += 1
  isRead = true
  expect(chunks).toBeGreaterThan(10)
  expect(turns).toBeGreaterThanOrEqual(chunks - 1)
})
