/** Prints a token that the server in this directory accepts: `bun run token [user]`. */
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { SignJWT } from 'jose'
import { ConfigError, readConfig } from '../config.ts'
import { developmentSecret } from '../auth/development-secret.ts'
import { DirectoryUnusable } from '../db/data-directory.ts'

const lifetime = '12h'

async function printToken(): Promise<void> {
  const { positionals } = parseArgs({ allowPositionals: true })
  const [user = 'alice'] = positionals
  const { environment, secret } = readConfig(process.env)
  if (environment === 'production')
    throw new ConfigError(
      ['NODE_ENV is production: there, tokens come from your auth server only'],
      environment,
    )
  const key = secret ?? (await developmentSecret(resolve('.data')))
  const token = await new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(lifetime)
    .sign(new TextEncoder().encode(key))
  process.stdout.write(`${token}\n`)
}

try {
  await printToken()
} catch (error) {
  if (!(error instanceof ConfigError || error instanceof DirectoryUnusable)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}
