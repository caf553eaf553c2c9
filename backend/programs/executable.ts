/** The program of the executable: without a word it serves, `todo-api --help` lists the others. */
import { onStopSignal } from '../signals.ts' // before the rest is loaded
import { parseArgs } from 'node:util'
import { version } from '../../package.json'

type Command = {
  usage: string
  does: string
  /** How many arguments it takes. */
  least: number
  most: number
  /** Gives what to print. What a command needs is loaded with it. */
  run: (...parameters: string[]) => Promise<string>
}

const commands: Record<string, Command> = {
  health: {
    usage: 'health',
    does: 'exits 0 if the server with these settings is alive, and 1 if not',
    least: 0,
    most: 0,
    run: async () => (await import('./health.ts')).health(),
  },
  migrate: {
    usage: 'migrate',
    does: 'brings the tables up to date and ends',
    least: 0,
    most: 0,
    run: async () => (await import('./migrate.ts')).migrate(),
  },
  token: {
    usage: 'token [user]',
    does: 'prints a token to try the API with, alice by default; not in production',
    least: 0,
    most: 1,
    run: async (user) => (await import('./token.ts')).token(user),
  },
  restored: {
    usage: 'restored',
    does: 'to be run after a restore from a backup, before clients come back',
    least: 0,
    most: 0,
    run: async () => (await import('./restored.ts')).restored(),
  },
  forget: {
    usage: 'forget <user>',
    does: 'removes for good all that is kept of a user',
    least: 1,
    most: 1,
    run: async (user) => (await import('./forget.ts')).forgetUser(user),
  },
}

const help = `Todo API ${version}

  todo-api                serves, until SIGTERM
${Object.values(commands)
  .map(({ usage, does }) => `  todo-api ${usage.padEnd(15)}${does}\n`)
  .join('')}  todo-api --help         prints this
  todo-api --version      prints ${version}

The id of a user that begins with - comes after --: todo-api forget -- -x
(bun run keeps a first -- for itself: bun run forget -- -- -x).

Settings are environment variables: DATABASE_URL, BETTER_AUTH_URL, CORS_ORIGINS, PORT and others.
The executable todo-api reads no .env file; bun run does.
`

/** Errors whose message is all that a person needs to know. */
const expected = [
  'ConfigError',
  'DatabaseUnavailable',
  'DatabaseUnusable',
  'DirectoryInUse',
  'DirectoryUnusable',
  'MigrationFailed',
  'NotAUser',
  'NotHealthy',
  'StatementFailed',
  'StillWriting',
]

/** Ends by an exit code as `sh` and GNU's programs have it: 2 is for a command that does not exist. */
async function run(): Promise<void> {
  const { word, parameters, unknown, wantsHelp, wantsVersion } = readWords(process.argv.slice(2))
  const command = word !== undefined && Object.hasOwn(commands, word) ? commands[word] : undefined
  const theCommand = `The command is: todo-api ${command?.usage}`
  if (unknown !== undefined)
    return refuse(`There is no option ${unknown}.${command ? ` ${theCommand}` : ''}`)
  if (wantsHelp) return print(help)
  if (wantsVersion) return print(`${version}\n`)
  if (word === undefined) {
    await import('../main.ts')
    return
  }
  if (command === undefined) return refuse(`There is no command ${word}.`)
  const { least, most } = command
  if (parameters.length < least || parameters.length > most || parameters.includes(''))
    return refuse(theCommand)
  // Unlike a server, a command that is stopped has not done what it was asked to.
  onStopSignal(() => process.exit(1))
  try {
    const text = await command.run(...parameters)
    if (text !== '') print(`${text}\n`)
  } catch (error) {
    if (!(error instanceof Error && expected.includes(error.name))) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 1
  }
}

function readWords(args: string[]) {
  const options = {
    help: { type: 'boolean', short: 'h' },
    version: { type: 'boolean', short: 'v' },
  } as const
  // Not strict: that throws at an unknown option, and the command it stands with would not be known.
  const { values, positionals, tokens } = parseArgs({
    args,
    allowPositionals: true,
    strict: false,
    tokens: true,
    options,
  })
  const unknown = tokens.find(
    (token) =>
      token.kind === 'option' && !(Object.hasOwn(options, token.name) && token.value === undefined),
  )
  const [word, ...parameters] = positionals
  return {
    word,
    parameters,
    /** As it was written: `-abc` and not `-a`. */
    unknown: unknown && args[unknown.index],
    wantsHelp: values['help'] === true || word === 'help',
    wantsVersion: values['version'] === true,
  }
}

function print(text: string): void {
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    if (code === 'EPIPE') return // Whoever reads it has read enough.
    process.stderr.write(`${message}\n`)
    process.exitCode = 1
  })
  process.stdout.write(text)
}

function refuse(problem: string): void {
  process.stderr.write(`${problem}\n\n${help}`)
  process.exitCode = 2
}

await run()
