import { scopes } from '../auth/scopes.ts'
import type { Resource } from '../auth/tokens.ts'
import { ApiError } from '../http/failures.ts'
import type { ResourceMetadata } from './contracts.ts'

/** Tells clients of OAuth who issues tokens for `/mcp` (RFC 9728, 3.2). */
export async function describeResource({
  resource,
}: {
  resource: Resource | undefined
}): Promise<ResourceMetadata> {
  if (resource === undefined) throw new ApiError('route_not_found')
  return {
    resource: resource.url,
    authorization_servers: [resource.authorizationServer],
    scopes_supported: [...scopes],
    bearer_methods_supported: ['header'],
    resource_name: 'Todo API',
  }
}
