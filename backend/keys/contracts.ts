import { t } from 'elysia'
import { takes } from '../http/body.ts'
import { Failure, Invalid } from '../http/failures.ts'
import { anyRoute, withBody } from '../tasks/contracts.ts'
import { Key, KeyParams, MadeKey, NewKey } from './schemas.ts'

/** What each route takes, answers and says of itself. What it does is in routes.ts. */

const tags = ['Keys']
const byUserAlone = { ...anyRoute, 403: Failure('key_not_allowed') }

export const listKeys = {
  response: { 200: t.Array(Key), ...byUserAlone },
  detail: { tags, operationId: 'listKeys', summary: 'List my keys, oldest first' },
}

export const createKey = {
  ...takes(NewKey),
  response: {
    201: MadeKey,
    ...byUserAlone,
    ...withBody,
    422: Invalid('malformed_json', 'validation_failed'),
    409: Failure('key_limit_reached'),
  },
  detail: {
    tags,
    operationId: 'createKey',
    summary: 'Make a key',
    description: `For a script or an agent: it works wherever a token does, but not on these routes. It outlives the
session in which it was made. The answer is the only one that shows it. A user has 20 keys at most.
It takes no \`Idempotency-Key\`: the answer is a secret, and is not stored to be given again.`,
  },
}

export const revokeKey = {
  params: KeyParams,
  response: { 204: t.Void(), ...byUserAlone, 404: Failure('key_not_found') },
  detail: {
    tags,
    operationId: 'revokeKey',
    summary: 'Revoke a key',
    description: `From now on it is refused, and so are tickets that it got. Streams that were opened with it end within a
minute. It takes no \`Idempotency-Key\`: repeated, it is \`key_not_found\`, for the key is gone.`,
  },
}
