import { resolve } from 'node:path'
import { SignJWT } from 'jose'
import { ConfigError, readConfig, readEnvironment } from '../config.ts'
import { developmentSecret } from '../auth/development-secret.ts'

const lifetime = '12h'

/**
 * A token that the server in this directory accepts.
 *
 * @throws ConfigError, DirectoryUnusable
 */
export async function token(user = 'alice'): Promise<string> {
  const environment = readEnvironment(process.env)
  if (environment === 'production')
    throw new ConfigError(
      ['NODE_ENV is production: there, tokens come from your auth server only'],
      environment,
    )
  const { secret } = readConfig(process.env)
  const key = secret ?? (await developmentSecret(resolve('.data')))
  return new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(lifetime)
    .sign(new TextEncoder().encode(key))
}
