import { Database as LockFile, SQLiteError } from 'bun:sqlite'
import { constants, existsSync } from 'node:fs'
import { access, mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DirectoryInUse, DirectoryUnusable, explainDirectory } from './data-directory.ts'

export type EmbeddedDatabase = {
  /** The Unix socket on which it speaks PostgreSQL's protocol. */
  socket: string
  close: () => Promise<void>
}

/** The major version of PostgreSQL in PGlite, which cannot read the files of any other. */
export const embeddedVersion = '18'

/**
 * Starts PostgreSQL inside this process (PGlite) with its data in a directory, or in memory if that is
 * `memory://`. It speaks the wire protocol on a Unix socket that only this user can reach, so the code
 * above it is the same as for any other PostgreSQL.
 *
 * @throws DirectoryInUse when another process has the directory open
 * @throws DirectoryUnusable when it cannot be written, is damaged, or belongs to another version
 */
export async function startEmbedded(directory: string): Promise<EmbeddedDatabase> {
  if (directory === 'memory://') return serve(await openEngine(directory, true), () => {})
  await mkdir(directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw explainDirectory(error, directory)
  })
  const release = lock(join(directory, 'lock'), directory)
  try {
    return await serve(await openFiles(directory), release, directory)
  } catch (error) {
    release()
    throw error
  }
}

/** Whether a directory has the files of an embedded database, complete or not. */
export async function isEmbeddedIn(directory: string): Promise<boolean> {
  const { files, unpacking } = placesIn(directory)
  if (existsSync(unpacking)) return false
  const found = await readdir(files).catch(() => undefined)
  return found === undefined ? existsSync(files) : found.length > 0
}

const socketName = '.s.PGSQL.5432'

/**
 * Makes the socket's directory, and removes that of an earlier server which was killed, or replaced by
 * `--watch`, which lets us run nothing at its end. It is not in the data directory, because a socket's path
 * may have no more than about 100 characters, and not every file system can hold one.
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
 * Opens the files of the database, which a first start unpacks. Meanwhile there is a mark next to them: if
 * unpacking is interrupted, the next start begins again. Incomplete files without that mark are damaged,
 * and are never overwritten.
 */
async function openFiles(directory: string) {
  const { files, unpacking } = placesIn(directory)
  try {
    if (existsSync(unpacking)) await rm(files, { recursive: true, force: true })
    await mkdir(files, { recursive: true, mode: 0o700 })
    await access(files, constants.R_OK | constants.W_OK | constants.X_OK)
    const isNew = (await readdir(files)).length === 0
    if (isNew) await writeFile(unpacking, '')
    else await expectVersion(files)
    const engine = await openEngine(files, isNew).catch((error: unknown) => {
      throw damaged(files, error instanceof Error ? error.message : 'its files cannot be opened')
    })
    if (isNew) await rm(unpacking)
    return engine
  } catch (error) {
    throw explainDirectory(error, files)
  }
}

function placesIn(directory: string) {
  return {
    files: join(directory, 'postgres'),
    unpacking: join(directory, 'postgres.unpacking'),
  }
}

/** @throws DirectoryUnusable when the files are not of this PostgreSQL, or not a database at all */
async function expectVersion(files: string): Promise<void> {
  const file = join(files, 'PG_VERSION')
  const version = existsSync(file) ? (await readFile(file, 'utf8')).trim() : ''
  if (version === embeddedVersion) return
  if (!/^\d+(\.\d+)?$/.test(version)) throw damaged(files, 'PG_VERSION names no version')
  throw new DirectoryUnusable(
    `${file} says PostgreSQL ${version}, and the one in this program is ${embeddedVersion}, which cannot read those files. ` +
      `Start the version of this program that wrote them to get at the tasks, or begin without them: mv ${files} ${files}-${version}`,
  )
}

function damaged(files: string, reason: string): DirectoryUnusable {
  return new DirectoryUnusable(
    `The embedded database in ${files} does not start (${reason}): its files are damaged, or their disk is full. ` +
      `Put a copy of them in their place, or begin without them: mv ${files} ${files}-damaged`,
  )
}

async function openEngine(dataDir: string, isNew: boolean) {
  const [{ PGlite }, prepopulated] = await Promise.all([
    import('@electric-sql/pglite'),
    import('@electric-sql/pglite-prepopulatedfs'),
  ])
  return PGlite.create({
    dataDir,
    // A copy of what initdb makes. It saves the first start seconds and half a gigabyte.
    ...(isNew && { loadDataDir: await prepopulated.dataDir() }),
  })
}

async function serve(
  engine: Awaited<ReturnType<typeof openEngine>>,
  release: () => void,
  directory?: string,
): Promise<EmbeddedDatabase> {
  const { PGLiteSocketServer } = await import('@electric-sql/pglite-socket')
  const socketDirectory = await makeSocketDirectory(directory)
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
}

/**
 * Reserves the directory for this process, by SQLite's lock on a file: the operating system releases it
 * however the process ends, so no stale lock can be left behind.
 */
function lock(path: string, directory: string): () => void {
  let file: LockFile | undefined
  try {
    file = new LockFile(path)
    file.run('pragma busy_timeout = 0')
    file.run('begin exclusive')
  } catch (error) {
    file?.close()
    if (!(error instanceof SQLiteError)) throw error
    if (error.code === 'SQLITE_BUSY')
      throw new DirectoryInUse(
        `Another server is using the database in ${directory}. Stop it first, or set DATABASE_URL to a PostgreSQL that several servers can share.`,
      )
    if (error.code === 'SQLITE_NOTADB')
      throw new DirectoryUnusable(`${path} is damaged. It holds nothing but a lock: delete it.`)
    throw explainDirectory(error, path)
  }
  return () => file.close()
}
