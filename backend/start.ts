/** What `bun start` and `bun run dev` run: takes signals before the server is loaded, which takes a second. */
import './signals.ts'

await import('./main.ts')
