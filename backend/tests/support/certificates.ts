import { $ } from 'bun'
import { join } from 'node:path'
import { asPostgres } from './daemon.ts'

/** Makes an authority and a server's certificate for some host names, as files in a directory. */
export async function makeCertificates(directory: string, hosts: string[]) {
  const authority = join(directory, 'authority.pem')
  const authorityKey = join(directory, 'authority.key')
  const certificate = join(directory, 'server.pem')
  const key = join(directory, 'server.key')
  const create = [...asPostgres, 'openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-noenc']
  const alternatives = hosts.map((host) => `DNS:${host}`).join(',')
  await $`${create} -subj ${'/CN=An authority of the tests'} -keyout ${authorityKey} -out ${authority}`.quiet()
  await $`${create} -subj ${`/CN=${hosts[0]}`} -addext subjectAltName=${alternatives} -addext basicConstraints=critical,CA:FALSE -CA ${authority} -CAkey ${authorityKey} -keyout ${key} -out ${certificate}`.quiet()
  return { authority, certificate, key }
}
