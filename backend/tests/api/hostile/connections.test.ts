import { expect, test } from 'bun:test'
import { connect } from 'node:net'
import { newUser } from '../../support/api.ts'
import { bearer, createProbe } from '../../support/probe.ts'
import { bytesOf } from '../../support/wire.ts'

const probe = await createProbe()
const creation = { method: 'POST', target: '/api/tasks', body: '{"title":"x"}' }

/**
 * The runtime hangs up if a request comes while another is still worked on, which RFC 9112, 9.3.2
 * leaves to it.
 */
test.each([
  ['GET', '/health'],
  ['GET', '/nope'],
  ['GET', '/docs'],
  ['GET', '/api/tasks'],
  ['POST', '/api/tasks'],
])(
  '50 pipelined %s %s are answered in order, and none is done unanswered',
  async (method, target) => {
    const user = await newUser()
    const names = Array.from({ length: 50 }, (_, index) => `pipelined-${index}`)
    const bytes = names.map((name) =>
      bytesOf({
        ...(method === 'POST' ? creation : { target }),
        headers: { ...bearer(user), 'x-request-id': name },
      }),
    )
    const { answers } = await probe.raw('pipelined', Buffer.concat(bytes), {
      to: names.map(() => method),
      target,
    })
    const answered = answers.map(({ headers }) => headers.get('x-request-id'))
    expect(answered).toEqual(names.slice(0, answers.length))
    // One may be in work when the runtime hangs up.
    const done = (await probe.idsOf(user)).length
    expect(done).toBeLessThanOrEqual(answers.length + 1)
  },
)

test('100 clients that send one byte at a time delay nobody', async () => {
  const user = await newUser()
  const bytes = bytesOf({ ...creation, headers: bearer(user) })
  const sockets = Array.from({ length: 100 }, () =>
    connect({ port: probe.port, host: '127.0.0.1' }).on('error', () => {}),
  )
  let sent = 0
  const halfway = Promise.withResolvers<void>()
  const sending = setInterval(() => {
    for (const socket of sockets) socket.write(bytes.subarray(sent, sent + 1))
    sent += 1
    if (sent === Math.floor(bytes.length / 2)) halfway.resolve()
  }, 5)
  await probe.serveOthers()
  await halfway.promise
  await probe.serveOthers()
  clearInterval(sending)
  for (const socket of sockets) socket.destroy()
})
