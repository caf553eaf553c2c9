import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export function secretFile(directory: string): string {
  return join(directory, 'secret')
}

/**
 * The secret of this checkout, for signing tokens in development where no setting gives one. It is
 * made once and kept, so that a token outlives a restart.
 */
export async function developmentSecret(directory: string): Promise<string> {
  const file = secretFile(directory)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  try {
    // Fails where the file is there, so that of two processes that start at once one writes it.
    await writeFile(
      file,
      Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url'),
      {
        flag: 'wx',
        mode: 0o600,
      },
    )
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
  return readFile(file, 'utf8')
}
