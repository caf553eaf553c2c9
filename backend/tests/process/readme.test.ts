import { expect, test } from 'bun:test'
import { dirname, resolve } from 'node:path'
import { makeDirectory, startProcess } from '../support/process.ts'

const repository = resolve(import.meta.dir, '../../..')
const settings = { BETTER_AUTH_SECRET: '0123456789abcdefghijklmnopqrstuv' }

/** The tour's lines for a shell, but those for a machine without Bun, against this server. */
async function tourOf(origin: string): Promise<string> {
  const readme = await Bun.file(resolve(repository, 'README.md')).text()
  const [, section = ''] = /\n## A tour with curl\n([\s\S]*?)\n## /.exec(readme) ?? []
  const blocks = [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = '']) => block)
  expect(blocks).toHaveLength(3)
  const lines = blocks.filter((block) => !block.includes('npx')).join('')
  expect(lines.match(/http:\/\/localhost:8000/g)).toHaveLength(1)
  return lines.replace('http://localhost:8000', origin)
}

// The tests must pass with only Node and npm installed, and the tour is for those who have curl.
test.skipIf(Bun.which('curl') === null)(
  'every line of the README’s tour does what it says, twice',
  async () => {
    const directory = await makeDirectory()
    const server = await startProcess(directory.path, settings)
    const tour = await tourOf(server.origin)
    for (const time of [1, 2]) {
      const shell = Bun.spawn(['sh', '-eu', '-c', tour], {
        cwd: repository,
        env: { PATH: `${dirname(process.execPath)}:${process.env['PATH']}`, ...settings },
        stdout: 'pipe',
        stderr: 'pipe',
      })
      const [output, complaints] = await Promise.all([
        new Response(shell.stdout).text(),
        new Response(shell.stderr).text(),
      ])
      expect({ complaints, exitCode: await shell.exited }).toEqual({ complaints: '', exitCode: 0 })
      const [list = '', changed = '', completed = '', deleted] = output.split('\n')
      const task = { id: time, title: 'Buy milk' }
      expect(JSON.parse(list)).toEqual([expect.objectContaining({ ...task, completed: false })])
      expect(JSON.parse(changed)).toMatchObject({
        ...task,
        priority: 'high',
        due_date: '2030-01-31',
      })
      expect(JSON.parse(completed)).toMatchObject({ ...task, priority: 'high', completed: true })
      expect(deleted).toBe('204')
    }
    expect(await server.end()).toBe(0)
    await directory.remove()
  },
)
