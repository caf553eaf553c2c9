const sentBodies = new WeakMap<Request, unknown>()

/** Keeps the body as it was sent, if what it is read as depends on what the database holds. */
export function rememberSent(request: Request, body: unknown): void {
  sentBodies.set(request, body)
}

/** The body that identifies a request: what it is read as may be different when it is repeated. */
export function sentBody(request: Request, readAs: unknown): unknown {
  return sentBodies.get(request) ?? readAs
}
