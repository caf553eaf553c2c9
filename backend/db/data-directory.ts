/** The data next to the program cannot be read or written. The message is for whoever started it. */
export class DirectoryUnusable extends Error {
  override readonly name: string = 'DirectoryUnusable'
}

/** The data directory is in use by another server. */
export class DirectoryInUse extends DirectoryUnusable {
  override readonly name = 'DirectoryInUse'
}

const reasons: Record<string, string> = {
  EACCES: 'this user may not read and write it',
  EPERM: 'this user may not read and write it',
  EROFS: 'its disk takes no writes',
  ENOSPC: 'its disk is full',
  EDQUOT: 'its disk is full',
  EEXIST: 'it is a file where a directory should be',
  ENOTDIR: 'it is a file where a directory should be',
  EISDIR: 'it is a directory where a file should be',
  // SQLite's, of the lock.
  SQLITE_CANTOPEN: 'this user may not read and write it, or it is no file',
  SQLITE_READONLY: 'this user may not write it',
  SQLITE_PERM: 'this user may not read and write it',
  SQLITE_FULL: 'its disk is full',
  SQLITE_IOERR: 'its disk is full, or fails',
}

/** An error of the file system as one sentence with the path. Any other error is returned as it is. */
export function explainDirectory(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error)) return error
  // SQLite says more about some of them: SQLITE_IOERR_WRITE.
  const reason = reasons[String(error.code).replace(/^(SQLITE_[A-Z]+)_.*/, '$1')]
  if (reason === undefined) return error
  const place = 'path' in error && typeof error.path === 'string' ? error.path : path
  return new DirectoryUnusable(
    `${place} cannot be used: ${reason}. Fix that, or set DATABASE_URL to a PostgreSQL of your own.`,
  )
}
