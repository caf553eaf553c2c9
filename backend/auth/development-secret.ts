import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { explainDirectory } from '../db/data-directory.ts'

export function secretFile(directory: string): string {
  return join(directory, 'secret')
}

/**
 * The secret of this checkout, for signing tokens in development if no setting gives one. It is
 * made once and kept, so that a token outlives a restart.
 *
 * @throws DirectoryUnusable when the directory cannot be written
 */
export async function developmentSecret(directory: string): Promise<string> {
  const file = secretFile(directory)
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await writeNew(file, Buffer.from(crypto.getRandomValues(new Uint8Array(32))))
    return await readFile(file, 'utf8')
  } catch (error) {
    throw explainDirectory(error, directory)
  }
}

/** Fails silently if the file is there, so that of two processes that start at once one writes it. */
async function writeNew(file: string, secret: Buffer): Promise<void> {
  try {
    await writeFile(file, secret.toString('base64url'), { flag: 'wx', mode: 0o600 })
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
