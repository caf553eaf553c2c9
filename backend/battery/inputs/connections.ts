import { connect } from 'node:net'
import { newUser } from '../../tests/support/api.ts'
import { creation } from './framing.ts'
import { bearer, type Probe } from './probe.ts'
import { bytesOf, type Message } from './wire.ts'

/** Connections that are used as few clients would. */
export async function tryConnections(probe: Probe): Promise<void> {
  await tryPipelines(probe)
  await trySlowSenders(probe)
}

/**
 * Requests that are sent without waiting for answers. The runtime hangs up where one comes while
 * another is still worked on, which RFC 9112, 9.3.2 leaves to it; what it answers must be in order,
 * and what it has not answered must not have been done behind an answer that was lost in between.
 */
async function tryPipelines(probe: Probe): Promise<void> {
  const user = await newUser()
  const names = Array.from({ length: 50 }, (_, index) => `pipelined-${index}`)
  const pipelines: [string, Message][] = [
    ['GET /health', { target: '/health' }],
    ['GET /nope', { target: '/nope' }],
    ['GET /docs', { target: '/docs' }],
    ['GET /api/tasks', { target: '/api/tasks', headers: bearer(user) }],
    ['POST /api/tasks', { ...newTask, headers: bearer(user) }],
  ]
  for (const [what, message] of pipelines) {
    const { method = 'GET', target } = message
    const bytes = names.map((name) =>
      bytesOf({ ...message, headers: { ...message.headers, 'x-request-id': name } }),
    )
    const { answers, ending } = await probe.raw(`50 times ${what}`, Buffer.concat(bytes), {
      to: names.map(() => method),
    })
    for (const [index, answer] of answers.entries()) {
      probe.judge(`50 times ${what}`, method, target, answer)
      if (answer.headers.get('x-request-id') !== names[index])
        probe.report.violation(`50 times ${what}: the answers are not in order`)
    }
    if (ending === 'closed') probe.report.count('pipelines hung up on')
  }
  const done = (await probe.idsOf(user)).length
  if (done > 1) probe.report.violation(`${done} pipelined requests were carried out unanswered`)
}

const newTask = { method: 'POST', target: '/api/tasks', body: '{"title":"x"}' }

/** 100 clients that send their requests a byte at a time, while others are served. */
async function trySlowSenders(probe: Probe): Promise<void> {
  const user = await newUser()
  const body = '{"title":"x"}'
  const bytes = creation(user.token, { 'content-length': String(body.length) }, body)
  const sockets = Array.from({ length: 100 }, () => {
    probe.report.count('bad inputs tried')
    return connect({ port: probe.port, host: '127.0.0.1' }).on('error', () => {})
  })
  let sent = 0
  const halfway = Promise.withResolvers<void>()
  const sending = setInterval(() => {
    for (const socket of sockets) socket.write(bytes.subarray(sent, sent + 1))
    sent += 1
    if (sent === Math.floor(bytes.length / 2)) halfway.resolve()
  }, 5)

  async function serveOthers(): Promise<void> {
    for (let count = 0; count < 20; count += 1)
      await probe.attempt(
        'beside 100 slow senders',
        { target: '/api/tasks', headers: bearer(user) },
        { expected: [200] },
      )
  }
  await Promise.all(Array.from({ length: 10 }, serveOthers))
  await halfway.promise
  await Promise.all(Array.from({ length: 10 }, serveOthers))
  clearInterval(sending)
  for (const socket of sockets) socket.destroy()
}
