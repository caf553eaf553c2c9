import { join } from 'node:path'
import { dependencies } from '../../package.json'
import { dependencies as ofPeers } from './package.json'

/** A server to compare with, as one process that listens on 127.0.0.1. */
export type Peer = {
  /** What it is made of, with versions. */
  name: string
  /** What it lacks or is spared, in one sentence. */
  note: string
  /** `ours`: the schema of backend/db/migrations. `plain`: that of peers/schema.sql. */
  database: 'ours' | 'plain'
  command: string[]
  /**
   * What it needs besides `PORT`, `DATABASE_URL` (over TCP, without TLS) and `BETTER_AUTH_SECRET`.
   * `POOL` is the most connections that it opens to the database: 10, as of this server.
   */
  env: Record<string, string>
  /** How a request says whose it is: by a Bearer token, or by the user's id in `x-user`. */
  identifies: 'token' | 'header'
}

const node = 'node'
const python = '/usr/bin/python3' // Debian's, which is where its packages are

const versions = { ...dependencies, ...ofPeers }

const file = (name: string) => join(import.meta.dir, 'peers', name)
const env = { NODE_ENV: 'production', POOL: '10' }
const usual = { database: 'plain', env, identifies: 'token' } as const

export const peers: Peer[] = [
  {
    name: `Floor: Bun.serve ${Bun.version} + postgres.js ${npmPackage('postgres')}`,
    note: "This server's own SQL, rows instead of JSON; no authentication, validation, CORS or log.",
    database: 'ours',
    command: [process.execPath, file('floor.ts')],
    env,
    identifies: 'header',
  },
  {
    ...usual,
    name: `Elysia ${npmPackage('elysia')} + postgres.js ${npmPackage('postgres')} (Bun ${Bun.version})`,
    note: 'Plain table, no log.',
    command: [process.execPath, file('elysia.ts')],
  },
  {
    ...usual,
    name: `Hono ${npmPackage('hono')} + postgres.js ${npmPackage('postgres')} (Bun ${Bun.version})`,
    note: 'Plain table, no log.',
    command: [process.execPath, file('hono.ts')],
  },
  {
    ...usual,
    name: `Fastify ${npmPackage('fastify')} + pg ${npmPackage('pg')} (Node ${output([node, '--version']).slice(1)})`,
    note: 'Plain table, named prepared statements, no log.',
    command: [node, file('fastify.js')],
  },
  {
    ...usual,
    name: `FastAPI ${debianPackage('python3-fastapi')} + SQLModel ${debianPackage('python3-sqlmodel')} + asyncpg ${debianPackage('python3-asyncpg')} (Python ${output([python, '--version']).replace('Python ', '')})`,
    note: "Plain table, uvloop and httptools, one worker, no log. Debian's packages, whose pydantic 1 is not compiled.",
    command: [python, file('fastapi_server.py')],
  },
]

/** The major and the minor version. */
function npmPackage(name: keyof typeof versions): string {
  return versions[name].split('.').slice(0, 2).join('.')
}

/** Upstream's part of a version: 0.0.8 of 0.0.8-4. */
function debianPackage(name: string): string {
  return output(['dpkg-query', '--show', '--showformat=${Version}', name]).replace(/[-+].*/, '')
}

/** What a program prints; empty if it fails or is not installed. */
function output(command: string[]): string {
  if (Bun.which(command[0]!) === null) return ''
  return Bun.spawnSync(command, { stderr: 'ignore' }).stdout.toString().trim()
}
