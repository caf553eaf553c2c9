import { tokenFor } from '../tests/support/api.ts'
import { messageOf, type Message, type ToolResult } from '../tests/support/mcp.ts'
import type { Random } from '../tests/support/random.ts'
import type { Client } from './client.ts'
import type { Notebook } from './notebook.ts'
import type { Report } from './report.ts'

/** What somebody acts with, and for whom. */
export type Cast = {
  client: Client
  report: Report
  notebook: Notebook
  /** The other users' notebooks. */
  others: Notebook[]
  /** Where to send the next request. */
  origin: () => string
  next: Random
}

const aboutTasks = ['get_task', 'update_task', 'complete_task', 'delete_task', 'restore_task']
/** A version from before keys answers 401 to one, and 404 where they are made or agents are served. */
const unknownKey = 401
const unknownRoute = 404

/** A user who tries, with a token or a key, what only others may do to their tasks and keys. */
export function createStranger({ client, report, notebook, others, origin, next }: Cast) {
  const { id: userId, token } = notebook.user
  const oneOf = <Value>(values: readonly Value[]): Value => values[next(values.length)]!
  const foreignTask = (other: Notebook | undefined) =>
    other?.ids().at(-1) ?? Number.MAX_SAFE_INTEGER
  /** Without the prefix of a dialect, which these routes do not have. */
  const bareOrigin = () => new URL(origin()).origin

  async function makeKey(): Promise<void> {
    const json = { name: 'battery', scope: oneOf(['read', 'write']) }
    const asked = { token, json }
    const refused = [unknownRoute, 409] // there may be 20 already, of which nobody was told
    const outcome = await client.ask<{ id: number; key: string }>(
      bareOrigin(),
      'POST',
      '/api/keys',
      asked,
      refused,
    )
    if (outcome !== 'lost' && outcome.status === 201) notebook.keys.push(outcome.body)
  }

  /** Their token, or one of their keys. */
  async function bearer(): Promise<string> {
    if (notebook.keys.length === 0) await makeKey()
    return oneOf([token, ...notebook.keys.map(({ key }) => key)])
  }

  async function removeTask(): Promise<void> {
    const path = `/api/tasks/${foreignTask(oneOf(others))}`
    const expired = await tokenFor(userId, { exp: Math.floor(Date.now() / 1000) - 60 })
    const [asked, wanted] = next(2) === 0 ? [{ token }, [403, 404]] : [{ token: expired }, [401]]
    const outcome = await client.ask(origin(), 'DELETE', path, asked, wanted)
    if (outcome !== 'lost' && outcome.status < 300) report.violation(`${path} let a stranger in`)
  }

  async function callTool(): Promise<void> {
    const other = oneOf(others)
    const name = oneOf(aboutTasks)
    const named = next(2) === 0 && other && { user_id: other.user.id }
    const args = { id: foreignTask(other), title: 'Taken', ...named }
    const era = oneOf(['modern', 'legacy'] as const)
    const asked = {
      token: await bearer(),
      ...messageOf(era, 'tools/call', { name, arguments: args }),
    }
    const refused = [unknownKey, 403, unknownRoute]
    const outcome = await client.ask<Message>(bareOrigin(), 'POST', '/mcp', asked, refused)
    if (outcome === 'lost' || outcome.status !== 200) return
    report.count('calls of tools by strangers')
    const result = outcome.body.result as ToolResult | undefined
    if (result?.isError !== true)
      report.violation(`${name} let a stranger in: ${JSON.stringify(outcome.body).slice(0, 300)}`)
  }

  async function revokeKey(): Promise<void> {
    const other = oneOf(others)
    const id = other?.keys.at(-1)?.id
    if (other === undefined || id === undefined) return makeKey()
    const path = `/api/keys/${id}`
    const asked = { token: await bearer() }
    const refused = [unknownKey, 403, 404]
    const outcome = await client.ask(bareOrigin(), 'DELETE', path, asked, refused)
    if (outcome !== 'lost' && outcome.status < 300) report.violation(`${path} let a stranger in`)
    const left = await client.ask<{ id: number }[]>(
      bareOrigin(),
      'GET',
      '/api/keys',
      { token: other.user.token },
      [unknownRoute],
    )
    if (left === 'lost' || left.status !== 200) return
    report.count('tries at keys of others')
    if (!left.body.some((key) => key.id === id)) report.violation(`a stranger took ${path} away`)
  }

  return {
    /** Tries what must be refused. Whether it had an effect on a task, the task's history tells. */
    trespass: async (): Promise<void> => oneOf([removeTask, callTool, revokeKey])(),
  }
}
