import { Database as LockFile } from 'bun:sqlite'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type EmbeddedDatabase = {
  /** The unix socket on which it speaks PostgreSQL's protocol. */
  socket: string
  close: () => Promise<void>
}

/** The data directory is in use by another server. */
export class DirectoryInUse extends Error {
  override readonly name = 'DirectoryInUse'
}

/**
 * Starts PostgreSQL inside this process (PGlite) with its data under a directory, or in
 * memory where that is `memory://`.
 * It speaks the wire protocol on a unix socket that only this user can reach, so that the code
 * above it is the same as for any other PostgreSQL.
 *
 * @throws DirectoryInUse when another process has the directory open
 */
export async function startEmbedded(directory: string): Promise<EmbeddedDatabase> {
  const inMemory = directory === 'memory://'
  if (!inMemory) await mkdir(directory, { recursive: true, mode: 0o700 })
  const release = inMemory ? () => {} : lock(directory)
  try {
    const [{ PGlite }, { PGLiteSocketServer }, { dataDir }] = await Promise.all([
      import('@electric-sql/pglite'),
      import('@electric-sql/pglite-socket'),
      import('@electric-sql/pglite-prepopulatedfs'),
    ])
    const files = inMemory ? directory : join(directory, 'postgres')
    const isNew = inMemory || !existsSync(join(files, 'PG_VERSION'))
    const engine = await PGlite.create({
      dataDir: files,
      // A copy of what initdb makes: it spares the first start seconds and half a gigabyte.
      ...(isNew && { loadDataDir: await dataDir() }),
    })
    const socketDirectory = await makeSocketDirectory(inMemory ? undefined : directory)
    const socket = join(socketDirectory, socketName)
    const server = new PGLiteSocketServer({ db: engine, path: socket, maxConnections: 10 })
    await server.start()
    return {
      socket,
      async close() {
        await server.stop()
        await engine.close()
        await rm(socketDirectory, { recursive: true, force: true })
        release()
      },
    }
  } catch (error) {
    release()
    throw error
  }
}

const socketName = '.s.PGSQL.5432'

/**
 * Makes the directory of the socket, and removes the one of a server before that was killed, or
 * replaced by `--watch`, which runs nothing of ours at its end. Not in the data directory: a socket's
 * path may have no more than about 100 characters, and not every file system can hold one.
 *
 * @param directory the data directory, which this process has locked
 */
async function makeSocketDirectory(directory: string | undefined): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), 'todo-api-'))
  if (directory === undefined) return made
  const note = join(directory, 'socket-directory')
  const leftBehind = await readFile(note, 'utf8').catch(() => '')
  if (leftBehind !== '') {
    await rm(join(leftBehind, socketName), { force: true }).catch(() => {})
    await rmdir(leftBehind).catch(() => {}) // it may be gone
  }
  await writeFile(note, made)
  return made
}

/**
 * Holds the directory for this process. The lock is SQLite's on a file: the operating system lets
 * go of it when the process ends, however it ends, so that nothing stale can be left behind.
 */
function lock(directory: string): () => void {
  const file = new LockFile(join(directory, 'lock'))
  try {
    file.run('pragma busy_timeout = 0')
    file.run('begin exclusive')
  } catch {
    file.close()
    throw new DirectoryInUse(
      `Another server is using the database in ${directory}. Stop it first, or set DATABASE_URL to a PostgreSQL that several servers can share.`,
    )
  }
  return () => file.close()
}
