const encoder = new TextEncoder()

/** Where the text of a stream goes, until it is closed. */
export function createOutlet(controller: ReadableStreamDefaultController<Uint8Array>) {
  let isOpen = true
  return {
    isOpen: () => isOpen,
    /** Whether its reader has taken enough for more to be sent. */
    hasRoom: () => isOpen && (controller.desiredSize ?? 0) > 0,
    /** Sends nothing once it is closed. */
    send(text: string): void {
      if (isOpen) controller.enqueue(encoder.encode(text))
    },
    close(): void {
      isOpen = false
      try {
        controller.close()
      } catch {
        // The client has closed it already.
      }
    },
  }
}
