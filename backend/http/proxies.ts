import { BlockList, isIP } from 'node:net'

/** As much of the server as tells who is at the other end of a connection. */
type Connections = { requestIP: (request: Request) => { address: string } | null } | null

export type Proxies = ReturnType<typeof createProxies>

const mostRemembered = 1_000
const longestRemembered = 100 // characters

/**
 * Who sent a request, and how. What proxies say in `X-Forwarded-For` and `X-Forwarded-Proto` is
 * believed of the trusted ones only: from anybody else these headers are just text.
 */
export function createProxies(trusted?: BlockList) {
  const isTrusted = remember((address) => {
    const family = isIP(address)
    return family !== 0 && trusted?.check(address, family === 6 ? 'ipv6' : 'ipv4') === true
  })
  const networkOf = remember(findNetwork)
  const networkBehind = remember((forwarded) => networkOf(findClient(forwarded, isTrusted)))
  let asked: { request: Request; peer: string } | undefined

  /** Asking the runtime costs half a microsecond; the hooks of a request ask one after the other. */
  function peerOf(request: Request, server: Connections): string {
    if (asked?.request !== request)
      asked = { request, peer: server?.requestIP(request)?.address ?? '' }
    return asked.peer
  }

  return {
    /** Whether there is a proxy to believe at all. */
    areConfigured: trusted !== undefined,

    /** Whom a request is from: an IPv4 address, or the first half of an IPv6 address. */
    clientOf(request: Request, server: Connections): string {
      const peer = peerOf(request, server)
      const forwarded = isTrusted(peer) ? request.headers.get('x-forwarded-for') : null
      return (forwarded !== null && networkBehind(forwarded)) || networkOf(peer)
    },

    /** Whether the client came over TLS, which ends at the proxy. */
    isOverTls(request: Request, server: Connections): boolean {
      return (
        request.headers.get('x-forwarded-proto') === 'https' && isTrusted(peerOf(request, server))
      )
    },
  }
}

function remember<Value>(find: (text: string) => Value): (text: string) => Value {
  const found = new Map<string, Value>()
  return function findOrRemember(text) {
    const known = found.get(text)
    if (known !== undefined) return known
    const value = find(text)
    if (found.size >= mostRemembered) found.clear()
    if (text.length <= longestRemembered) found.set(text, value)
    return value
  }
}

/**
 * The last address in `X-Forwarded-For` that is not a trusted proxy's. Those before it were written
 * by the client, or by somebody else whom we do not know.
 *
 * @returns the last that is an address at all, or '' if there is none
 */
function findClient(forwarded: string, isTrusted: (address: string) => boolean): string {
  let client = ''
  for (let end = forwarded.length; end > 0;) {
    const comma = forwarded.lastIndexOf(',', end - 1)
    const address = withoutPort(forwarded.slice(comma + 1, end).trim())
    if (isIP(address) === 0) return client
    client = address
    if (!isTrusted(address)) return client
    end = comma
  }
  return client
}

/** Some proxies write `192.0.2.7:4711` and `[2001:db8::7]:4711`. */
function withoutPort(text: string): string {
  if (text.startsWith('[')) return text.slice(1, text.indexOf(']'))
  const colon = text.indexOf(':')
  return colon !== -1 && colon === text.lastIndexOf(':') ? text.slice(0, colon) : text
}

/**
 * The /64 of an IPv6 address: in it, a client may have any other address at will. An IPv4 address
 * that is mapped into IPv6 (RFC 4291, 2.5.5.2) is itself, whichever way it is written.
 */
function findNetwork(address: string): string {
  if (!address.includes(':')) return address
  const groups = groupsOf(address)
  const [high = 0, low = 0] = groups.slice(6)
  if (groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0))
    return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  return groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')
}

/** The eight numbers of an IPv6 address. */
function groupsOf(address: string): number[] {
  const [before = [], after = []] = address.split('::').map((part) =>
    part.split(':').flatMap((group) => {
      if (group === '') return []
      if (!group.includes('.')) return [Number.parseInt(group, 16)]
      const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number)
      return [a * 256 + b, c * 256 + d]
    }),
  )
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0)
  return [...before, ...zeros, ...after]
}

/**
 * @param text addresses and ranges in CIDR notation, separated by commas
 * @throws Error if one of them is neither
 */
export function parseProxies(text: string): BlockList {
  const proxies = new BlockList()
  for (const entry of text.split(',').map((part) => part.trim())) {
    if (entry === '') continue
    const [, address = '', prefix] = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(entry) ?? []
    const bits = isIP(address) === 4 ? 32 : 128
    const length = prefix === undefined ? bits : Number(prefix)
    if (isIP(address) === 0 || address.includes('%') || length > bits)
      throw new Error(
        'must be addresses or ranges such as 10.0.0.0/8, 192.0.2.7 or fd00::/8, separated by commas',
      )
    proxies.addSubnet(address, length, bits === 32 ? 'ipv4' : 'ipv6')
  }
  return proxies
}
