import { resolve } from 'node:path'
import { SignJWT } from 'jose'
import { ConfigError, readConfig, readEnvironment } from '../config.ts'
import { isUserId } from '../auth/tokens.ts'
import { developmentSecret } from '../auth/development-secret.ts'

const lifetime = '12h'

/** No user can have this id. */
class NotAUser extends Error {
  override readonly name = 'NotAUser'
}

/**
 * A token that the server in this directory accepts.
 *
 * @throws NotAUser, ConfigError, DirectoryUnusable
 */
export async function token(user = 'alice'): Promise<string> {
  const environment = readEnvironment(process.env)
  if (environment === 'production')
    throw new ConfigError(
      ['NODE_ENV is production: there, tokens come from your auth server only'],
      environment,
    )
  if (!isUserId(user)) throw new NotAUser('The id of a user is text of 1 to 255 characters')
  const { secret } = readConfig(process.env)
  const key = secret ?? (await developmentSecret(resolve('.data')))
  return new SignJWT()
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(lifetime)
    .sign(new TextEncoder().encode(key))
}
