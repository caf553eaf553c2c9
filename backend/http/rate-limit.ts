import { Elysia, type HTTPHeaders } from 'elysia'
import { ApiError } from './failures.ts'
import type { Proxies } from './proxies.ts'

/**
 * Counts a request against a quota, and tells of it in the headers of the answer.
 *
 * @param more as how many more a request counts that has been counted already; at most the whole quota
 * @throws ApiError 429, with the seconds after which the whole request would be let through
 */
export type Limit = (key: string, headers: HTTPHeaders, more?: number) => void

/** Requests per minute; absent if there is no limit. */
export type Quotas = { perUser?: number; perAddress?: number }

export type RateLimits = ReturnType<typeof createRateLimits>

const window = 60 // s
const mostKeys = 50_000 // with a number each; twice as many are known
const rounding = 1e-6 // of a request; sums of intervals are not exact

/** For probes: one that fails takes the server out of service, or restarts it. */
const unlimitedPaths = ['/health', '/ready']

/**
 * The quotas of this process, announced as draft-ietf-httpapi-ratelimit-headers-10 says. If one is
 * used up, the request is 429 `rate_limited`.
 *
 * @param now a time in milliseconds that never goes back
 */
export function createRateLimits(
  { perUser, perAddress }: Quotas,
  now: () => number = () => performance.now(),
): { limitUser: Limit; limitAddress?: Limit } {
  const addressPolicy = perAddress && policyOf('address', perAddress)
  const userPolicy = perUser && policyOf('user', perUser)
  return {
    limitUser: perUser
      ? createLimit(
          'user',
          perUser,
          [addressPolicy, userPolicy].filter((policy) => policy !== undefined).join(', '),
          now,
        )
      : () => {},
    ...(perAddress &&
      addressPolicy && { limitAddress: createLimit('address', perAddress, addressPolicy, now) }),
  }
}

/** Limits the addresses that requests come from, before anything is asked about a token. */
export function addressLimit({ limitAddress }: RateLimits, proxies: Proxies) {
  const plugin = new Elysia({ name: 'address-limit' })
  if (limitAddress === undefined) return plugin
  return plugin.onRequest(function countAddress({ request, set, server }) {
    if (unlimitedPaths.includes(pathOf(request.url))) return
    limitAddress(proxies.clientOf(request, server), set.headers)
  })
}

const policyOf = (name: string, quota: number) => `"${name}";q=${quota};w=${window}`

function createLimit(name: string, quota: number, policies: string, now: () => number): Limit {
  const count = createCounter(quota, now)
  return function limit(key, headers, more = 0) {
    const asked = more === 0 ? 1 : Math.min(more, quota - 1)
    const { free, isRefused } = count(key, asked)
    const remaining = Math.floor(free + rounding)
    // Whoever is told to wait for more sends the request itself again, too.
    const wanted = isRefused ? asked + Math.sign(more) : remaining + 1
    const wait = Math.max(1, Math.ceil(((wanted - free) * window) / quota - rounding)) // s
    const others = String(headers['ratelimit'] ?? '')
      .split(', ')
      .filter((item) => item !== '' && !item.startsWith(`"${name}"`))
    const item = `"${name}";r=${remaining};t=${wait}`
    headers['ratelimit-policy'] = policies
    headers['ratelimit'] = [...others, item].join(', ')
    if (isRefused) throw new ApiError('rate_limited', { headers: { 'retry-after': String(wait) } })
  }
}

/**
 * Counts by the generic cell rate algorithm (ITU-T I.371): what is kept of a key is one number, the
 * time when its whole quota will be free again, and the quota comes back evenly, not all at once.
 *
 * Numbers from before the last window say nothing, so keys are kept in two generations: the older is
 * dropped when a window has passed. If the younger grows too large before that,
 * the keys that have not been used lately go first.
 *
 * @returns how much of the quota is free after this request; below 0 if it was used up, and then
 *   the request is not counted
 */
function createCounter(
  quota: number,
  now: () => number,
): (key: string, requests: number) => { free: number; isRefused: boolean } {
  const interval = (window * 1000) / quota // ms
  let young = new Map<string, number>()
  let old = new Map<string, number>()
  let bornAt = now()

  return function count(key, requests) {
    const time = now()
    if (young.size >= mostKeys || time - bornAt >= window * 1000) {
      old = young
      young = new Map()
      bornAt = time
    }
    const wholeAt = Math.max(young.get(key) ?? old.get(key) ?? 0, time)
    const free = (time - wholeAt) / interval + quota
    const isRefused = free - requests < -rounding
    young.set(key, isRefused ? wholeAt : wholeAt + interval * requests)
    return { free: isRefused ? free : free - requests, isRefused }
  }
}

function pathOf(url: string): string {
  const start = url.indexOf('/', 'http://'.length)
  const end = url.indexOf('?', start)
  return end === -1 ? url.slice(start) : url.slice(start, end)
}
