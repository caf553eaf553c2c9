/**
 * The codes with which the driver, the socket, the resolver and TLS say that the database cannot be
 * reached. It is a list because any other code is a fault of this program, which must not be blamed on the
 * database.
 */
const codes = new Set([
  // postgres.js 3.4.9
  'CONNECTION_CLOSED',
  'CONNECTION_DESTROYED',
  'CONNECTION_ENDED',
  'CONNECT_TIMEOUT',
  'SASL_SIGNATURE_MISMATCH',
  // the socket
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EADDRNOTAVAIL',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'EMFILE',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'ENFILE',
  'ENOBUFS',
  'ENOTCONN',
  'EPIPE',
  'ETIMEDOUT',
  // names (getaddrinfo, c-ares)
  'EAI_AGAIN',
  'EAI_FAIL',
  'ENODATA',
  'ENOTFOUND',
  'EREFUSED',
  'ESERVFAIL',
  'ETIMEOUT',
  // certificates that do not verify (OpenSSL, X509_V_ERR_*)
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_REJECTED',
  'CERT_REVOKED',
  'CERT_SIGNATURE_FAILURE',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'HOSTNAME_MISMATCH',
  'INVALID_CA',
  'INVALID_PURPOSE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/** Whether an error that is not PostgreSQL's own comes from a connection to it. */
export function isOfConnection(error: Error, code: string): boolean {
  // A server of ours that cannot listen fails with the same codes.
  if ('syscall' in error && (error.syscall === 'listen' || error.syscall === 'bind')) return false
  // Only for a socket that is not there, not for any other file.
  if (code === 'ENOENT') return 'syscall' in error && error.syscall === 'connect'
  return codes.has(code) || code.startsWith('ERR_SSL_')
}
