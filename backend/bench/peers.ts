import { join } from 'node:path'
import elysia from 'elysia/package.json' with { type: 'json' }
import fastify from 'fastify/package.json' with { type: 'json' }
import hono from 'hono/package.json' with { type: 'json' }
import pg from 'pg/package.json' with { type: 'json' }
import postgres from 'postgres/package.json' with { type: 'json' }

/** A server to compare with, as one process that listens on 127.0.0.1. */
export type Peer = {
  /** What it is made of, with versions. */
  name: string
  /** Of what it falls short or what it is spared, in one sentence. */
  note: string
  /** `ours`: the schema of backend/db/migrations. `plain`: that of peers/schema.sql. */
  database: 'ours' | 'plain'
  command: string[]
  /**
   * What it needs beside `PORT`, `DATABASE_URL` (over TCP, without TLS) and `BETTER_AUTH_SECRET`.
   * `POOL` is the most connections that it opens to the database: 10, as of this server.
   */
  env: Record<string, string>
  /** How a request says whose it is: by a Bearer token, or by the user's id in `x-user`. */
  identifies: 'token' | 'header'
}

const node = 'node'
const python = '/usr/bin/python3' // Debian's, which is where its packages are

const file = (name: string) => join(import.meta.dir, 'peers', name)
const env = { NODE_ENV: 'production', POOL: '10' }

export const peers: Peer[] = [
  {
    name: `Floor: Bun.serve ${Bun.version} + postgres.js ${short(postgres.version)}`,
    note: "This server's own SQL, rows instead of JSON; no authentication, validation, CORS or log.",
    database: 'ours',
    command: [process.execPath, file('floor.ts')],
    env,
    identifies: 'header',
  },
  {
    name: `Elysia ${short(elysia.version)} + postgres.js ${short(postgres.version)} (Bun ${Bun.version})`,
    note: 'Plain table, no log.',
    database: 'plain',
    command: [process.execPath, file('elysia.ts')],
    env,
    identifies: 'token',
  },
  {
    name: `Hono ${short(hono.version)} + postgres.js ${short(postgres.version)} (Bun ${Bun.version})`,
    note: 'Plain table, no log.',
    database: 'plain',
    command: [process.execPath, file('hono.ts')],
    env,
    identifies: 'token',
  },
  {
    name: `Fastify ${short(fastify.version)} + pg ${short(pg.version)} (Node ${output([node, '--version']).slice(1)})`,
    note: 'Plain table, named prepared statements, no log.',
    database: 'plain',
    command: [node, file('fastify.js')],
    env,
    identifies: 'token',
  },
  {
    name: `FastAPI ${pythonPackage('fastapi')} + SQLModel ${pythonPackage('sqlmodel')} + asyncpg (Python ${output([python, '--version']).replace('Python ', '')})`,
    note: "Plain table, uvloop and httptools, one worker, no log. Debian's packages, whose pydantic 1 is not compiled.",
    database: 'plain',
    command: [python, file('fastapi_server.py')],
    env,
    identifies: 'token',
  },
]

/** The major and the minor version. */
function short(version: string): string {
  return version.split('.').slice(0, 2).join('.')
}

function pythonPackage(name: string): string {
  const program = `from importlib.metadata import version; print(version('${name}'))`
  return output([python, '-c', program])
}

/** What a program prints; empty where it fails or is not installed. */
function output(command: string[]): string {
  if (Bun.which(command[0]!) === null) return ''
  return Bun.spawnSync(command, { stderr: 'ignore' }).stdout.toString().trim()
}
