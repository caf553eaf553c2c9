import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { repository } from './server.ts'

/** The blocks of code of a page of the documentation. */
export async function codeOf(page: string) {
  const text = await Bun.file(join(repository, page)).text()
  const blocks = [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(([, language, code]) => ({
    language: language!,
    code: code!,
  }))

  return {
    /** Writes the wanted ones of the blocks that begin with a file's name. */
    async writeFiles(directory: string, isWanted: (name: string) => boolean): Promise<void> {
      for (const { code } of blocks) {
        const [, name] = /^\/\/ (\S+\.(?:tsx?|json))\n/.exec(code) ?? []
        if (name === undefined || !isWanted(name)) continue
        await mkdir(dirname(join(directory, name)), { recursive: true })
        await Bun.write(join(directory, name), code)
      }
    },
    /** The commands of the one block that has them, to be run as they are. */
    commands(beginning: string): string {
      const found = blocks.filter(
        ({ language, code }) => language === 'sh' && code.startsWith(beginning),
      )
      if (found.length !== 1) throw new Error(`${found.length} blocks begin with ${beginning}`)
      return found[0]!.code
    },
  }
}
