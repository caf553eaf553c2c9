const prefix = 'todo_' // by which a key is known that was published by mistake
const randomBytes = 32
const shape = /^todo_[A-Za-z0-9_-]{43}$/
const shown = 9 // characters

/** Makes a key, what its user knows it by, and what is kept of it. */
export function createSecret(): { key: string; start: string; hash: string } {
  const random = Buffer.from(crypto.getRandomValues(new Uint8Array(randomBytes)))
  const key = `${prefix}${random.toString('base64url')}`
  return { key, start: key.slice(0, shown), hash: digestOf(key) }
}

export function isKey(token: string): boolean {
  return shape.test(token)
}

/** Without salt or rounds: 256 random bits cannot be guessed, and keys are looked up by it. */
export function digestOf(key: string): string {
  return new Bun.CryptoHasher('sha256').update(key).digest('base64url')
}
