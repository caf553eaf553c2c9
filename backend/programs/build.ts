/** Makes the server one executable file: `bun run build [file]`, by default `dist/todo-api`. */
import { dirname, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { BunPlugin } from 'bun'

const { positionals } = parseArgs({ allowPositionals: true })
const [outfile = 'dist/todo-api'] = positionals

/**
 * The embedded database looks for its files next to its own modules, at a URL that it puts together
 * while it runs. In an executable there is nothing next to them, so each such URL becomes an import, so
 * that the file is built in.
 */
const embeddedDatabase: BunPlugin = {
  name: 'embedded-database',
  setup(build) {
    const modules = /@electric-sql\/pglite(-prepopulatedfs)?\/dist\/[^/]+\.js$/
    const fileUrl = /new URL\("(\.[^"]+)", ?import\.meta\.url\)/g
    build.onLoad({ filter: modules }, async ({ path }) => {
      const source = await Bun.file(path).text()
      const files = [...new Set([...source.matchAll(fileUrl)].map(([, file = '']) => file))]
      const imports = files.map(
        (file, index) =>
          `import embedded${index} from ${JSON.stringify(resolve(dirname(path), file))} with { type: 'file' };\n`,
      )
      const withFiles = source.replaceAll(
        fileUrl,
        (_, file: string) => `Bun.pathToFileURL(embedded${files.indexOf(file)})`,
      )
      return { loader: 'js', contents: imports.join('') + withFiles }
    })
  },
}

await Bun.build({
  entrypoints: [resolve(import.meta.dir, 'executable.ts')],
  target: 'bun',
  plugins: [embeddedDatabase],
  // Not minified: Elysia reads its handlers' source text to learn what they use. Bytecode keeps that
  // text, and halves the time to start.
  format: 'esm',
  bytecode: true,
  compile: {
    outfile: resolve(outfile),
    // Its settings come from the environment alone, not from files that lie where it is started.
    autoloadDotenv: false,
    autoloadBunfig: false,
  },
})
process.stdout.write(`${outfile}, ${Math.round(Bun.file(outfile).size / 1e6)} MB\n`)
