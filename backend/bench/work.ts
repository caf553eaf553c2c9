import { tokenFor } from '../tests/support/api.ts'
import type { BenchRequest } from './load.ts'

export const usersCount = 500
export const tasksPerUser = 20

/** Users whose lists stay as they are. Their tasks have consecutive ids, the first user's from 1. */
export const readers = Array.from({ length: usersCount }, (_, index) => `user-${index + 1}`)
/** Users who create tasks, which are deleted again after each measurement. */
export const writers = Array.from({ length: usersCount }, (_, index) => `writer-${index + 1}`)

/** How a server is told who asks. */
export type Identify = (user: string) => Record<string, string>

/** A kind of request, and the status that it is answered with. */
export type Work = {
  name: string
  status: number
  writes?: true
  makeRequests: (identify: Identify, origin: string) => Promise<BenchRequest[]>
}

export const works: Work[] = [
  {
    name: 'health',
    status: 200,
    makeRequests: async () => [{ method: 'GET', path: '/health', headers: {} }],
  },
  {
    name: 'list of 20',
    status: 200,
    makeRequests: async (identify) => readers.map((user) => listOf(identify(user))),
  },
  {
    name: 'list, unchanged',
    status: 304,
    async makeRequests(identify, origin) {
      const requests = readers.map((user) => listOf(identify(user)))
      return Promise.all(
        requests.map(async ({ path, headers, ...rest }) => {
          const response = await fetch(origin + path, { headers })
          await response.arrayBuffer()
          const tag = response.headers.get('etag') ?? ''
          return { path, headers: { ...headers, 'if-none-match': tag }, ...rest }
        }),
      )
    },
  },
  {
    name: 'one task',
    status: 200,
    makeRequests: async (identify) => ofTasks(identify, (id) => ({ path: `/api/tasks/${id}` })),
  },
  {
    name: 'create',
    status: 201,
    writes: true,
    makeRequests: async (identify) =>
      writers.map((user, index) => ({
        method: 'POST',
        path: '/api/tasks',
        headers: identify(user),
        body: JSON.stringify({
          title: `Call the plumber about leak ${index}`,
          description: 'The tap in the kitchen drips, and the one in the bathroom does not open.',
          priority: 'high',
          tags: ['home', 'urgent'],
          due_date: '2030-05-17',
        }),
      })),
  },
  {
    name: 'update',
    status: 200,
    writes: true,
    makeRequests: async (identify) =>
      ofTasks(identify, (id) => ({
        method: 'PUT',
        path: `/api/tasks/${id}`,
        body: JSON.stringify({ title: `A new title for ${id}`, priority: 'low' }),
      })),
  },
  {
    name: 'toggle',
    status: 200,
    writes: true,
    makeRequests: async (identify) =>
      ofTasks(identify, (id) => ({ method: 'PATCH', path: `/api/tasks/${id}/complete` })),
  },
  {
    // As a page does after a click: no list can be remembered from before.
    name: 'toggle, list',
    status: 200,
    writes: true,
    makeRequests: async (identify) =>
      ofTasks(identify, (id) => ({ method: 'PATCH', path: `/api/tasks/${id}/complete` })).flatMap(
        (toggle) => [toggle, listOf(toggle.headers)],
      ),
  },
]

function listOf(headers: Record<string, string>): BenchRequest {
  return { method: 'GET', path: '/api/tasks', headers }
}

/** Requests for four tasks of every user, in an order in which neighbours are of different users. */
function ofTasks(
  identify: Identify,
  requestFor: (id: number) => Omit<BenchRequest, 'headers' | 'method'> & { method?: string },
): BenchRequest[] {
  return [3, 8, 13, 18].flatMap((position) =>
    readers.map((user, index) => ({
      method: 'GET',
      headers: identify(user),
      ...requestFor(index * tasksPerUser + position),
    })),
  )
}

const users = [...readers, ...writers]
/** Tokens as a sign-in would give them, one for each user. */
const tokens = new Map(
  await Promise.all(users.map(async (user) => [user, await tokenFor(user)] as const)),
)

export const identifyBy: Record<'token' | 'header', Identify> = {
  token: (user) => ({ authorization: `Bearer ${tokens.get(user)}` }),
  header: (user) => ({ 'x-user': user }),
}
