import { once } from 'node:events'
import { connect as dial, type Socket } from 'node:net'
import type { Sql } from 'postgres'

/** Fills a user's list with tasks as large as they can be, 8.8 KB each. */
export async function fillList(admin: Sql, owner: string, tasks: number): Promise<void> {
  await admin`
    insert into todo_api.task_lists (user_id, counter, task_count) values (${owner}, ${tasks}, ${tasks})`
  await admin`
    insert into todo_api.tasks (user_id, change, created_change, title, description, tags)
    select
      ${owner}, number, number, repeat('😀', 200), repeat('😀', 1000),
      array(select repeat('😀', 48) || tag from generate_series(10, 29) tag)
    from generate_series(1, ${tasks}::int) number`
}

/** Sends a request on a connection of its own, and does not read the answer. */
export function sendAndNotRead(
  origin: string,
  method: string,
  path: string,
  { token }: { token: string },
): Socket {
  const { hostname, port } = new URL(origin)
  const socket = dial(Number(port), hostname)
  socket.pause()
  socket.on('error', () => {}) // it may be cut off
  socket.write(
    `${method} ${path} HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
  )
  return socket
}

/** The status of the answer, of which no more is read. */
export async function statusOf(socket: Socket): Promise<number> {
  const [head] = (await once(socket.resume(), 'data')) as [Buffer]
  socket.destroy()
  return Number(String(head).split(' ')[1])
}

/** The most memory that a process has ever had in use, in megabytes. */
export async function mostMemoryOf(pid: number): Promise<number> {
  const status = await Bun.file(`/proc/${pid}/status`).text()
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)![1]) / 1000
}
