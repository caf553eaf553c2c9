import type { Task } from '../tasks/schemas.ts'
import { newUser } from '../tests/support/api.ts'
import { startFreshServer } from './fresh-server.ts'
import { tryConnections } from './inputs/connections.ts'
import { tryFraming } from './inputs/framing.ts'
import { tryGeneratedBodies, tryGeneratedQueries } from './inputs/generated.ts'
import { tryHeads } from './inputs/heads.ts'
import { tryJson } from './inputs/json.ts'
import { tryMethods } from './inputs/methods.ts'
import { bystanderMark, createProbe, type User } from './inputs/probe.ts'
import { tryNaughtyStrings } from './inputs/strings.ts'
import type { Battery } from './main.ts'
import { rowsOf } from './rows.ts'

type Server = Awaited<ReturnType<typeof startFreshServer>>

/**
 * Bad input, on a server of its own: none may give a 5xx, a hang, a word about the inside, an answer
 * that the OpenAPI document does not declare, or a changed row of somebody else's.
 */
export async function inputs(battery: Battery): Promise<void> {
  const { report, seed, short } = battery
  const server = await startFreshServer(battery)
  const { admin } = server
  const probe = await createProbe(server.origin, report, 'bad inputs tried')
  const bystander = await newUser()
  await settle(server, bystander)

  const before = await rowsOf(admin, bystander.id)
  const sections: [string, () => Promise<void>][] = [
    ['every method', async () => tryMethods(probe)],
    ['heads', async () => tryHeads(probe)],
    ['framing', async () => tryFraming(probe)],
    ['connections', async () => tryConnections(probe)],
    ['JSON', async () => tryJson(probe)],
    [
      'generated bodies',
      async () => tryGeneratedBodies(probe, { seed, runs: short ? 100 : 15_000 }),
    ],
    [
      'generated queries',
      async () => tryGeneratedQueries(probe, { seed, runs: short ? 300 : 10_000 }),
    ],
    ['naughty strings', async () => tryNaughtyStrings(probe, short ? 8 : 1)],
  ]
  for (const [name, tryAll] of sections) {
    const started = performance.now()
    await tryAll()
    report.progress(`  ${name}: ${((performance.now() - started) / 1000).toFixed(1)} s`)
  }
  if ((await rowsOf(admin, bystander.id)) !== before)
    report.violation('bad input changed rows of a bystander')
  await probe.attempt('after all of it', { target: '/ready' }, { expected: [200] })

  const exitCode = await server.close()
  if (exitCode !== 0) report.violation(`the server did not end by itself, but with ${exitCode}`)
}

/** Gives the bystander something of everything. */
async function settle(server: Server, { token }: User): Promise<void> {
  const fields = { description: bystanderMark, tags: [bystanderMark], due_date: '2026-01-01' }
  const ids: number[] = []
  for (const index of [0, 1, 2, 3, 4]) {
    const { body } = await server.request<Task>('POST', '/api/tasks', {
      token,
      json: { title: `${bystanderMark} ${index}`, ...fields },
      headers: { 'idempotency-key': `${bystanderMark}-${index}` },
    })
    ids.push(body.id)
  }
  await server.request('DELETE', `/api/tasks/${ids[0]}`, { token })
  await server.request('DELETE', `/api/tasks/${ids[1]}?permanent=true`, { token })
}
