/**
 * In seconds. Load balancers keep an idle connection for a minute; whoever closes it first may do so
 * just as a request is sent.
 */
export const idleTimeout = 75

/** @param onUncaught answers what fails outside of every hook */
export function frameworkOptions(onUncaught: (error: unknown) => Response) {
  return {
    // One router for every path: the runtime's own treats a trailing slash and HEAD differently.
    systemRouter: false,
    // A host may be short, such as `api` in a network of containers; by default the framework looks
    // for the path behind the eleventh character of the URL.
    handler: { standardHostname: false },
    serve: {
      // By default a second server on the same port starts silently and takes half the requests.
      reusePort: false,
      idleTimeout,
      // What is too large is answered by body.ts; the runtime's own 413 is empty, without CORS.
      maxRequestBodySize: Number.MAX_SAFE_INTEGER,
      // The runtime's own page for what even the error hook cannot catch shows the source.
      development: false,
      error: onUncaught,
    },
  } as const
}
