/** Translates a piece of a text; the last piece may be empty. */
export type TranslatePiece = (piece: string, isLast: boolean) => string

/**
 * Translates a text as it is read, piece by piece. What is not read is held back at its source, which
 * knows when to cut a reader off; a reader that stops ends the source.
 *
 * @param wholeTo how much of a text can be translated without what comes after it
 */
export function translateInPieces(
  source: ReadableStream<Uint8Array>,
  wholeTo: (text: string) => number,
  translate: TranslatePiece,
): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  const [decoder, encoder] = [new TextDecoder(), new TextEncoder()]
  let begun = ''

  async function readPiece(): Promise<{ told: string; isLast: boolean }> {
    const { done: isLast, value } = await reader.read()
    begun += isLast ? decoder.decode() : decoder.decode(value, { stream: true })
    const end = isLast ? begun.length : wholeTo(begun)
    const told = translate(begun.slice(0, end), isLast)
    begun = begun.slice(end)
    return { told, isLast }
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let piece = await readPiece()
        while (piece.told === '' && !piece.isLast) piece = await readPiece()
        if (piece.told !== '') controller.enqueue(encoder.encode(piece.told))
        if (piece.isLast) controller.close()
      },
      cancel: async (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}
