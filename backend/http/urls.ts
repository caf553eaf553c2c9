/** The query of a request's URL. `URL` is not used because it throws if the Host header is not a host. */
export function parametersOf(url: string): URLSearchParams {
  const start = url.indexOf('?')
  return new URLSearchParams(start === -1 ? '' : url.slice(start + 1))
}

/** The path of a request's URL, which lacks scheme and host if the Host header is no host. */
export function pathOf(url: string): string {
  return url.replace(/^\w+:\/\/[^/]*/, '').replace(/\?.*$/s, '')
}
