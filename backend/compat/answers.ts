import { isSentInParts } from '../http/answers.ts'
import { createListTranslator, wholeTasksIn } from './lists.ts'
import type { Destination } from './paths.ts'
import { translateInPieces, type TranslatePiece } from './pieces.ts'
import type { Asked, BadParameter, Slice } from './slices.ts'
import { translateTasks } from './words.ts'

/** The answer that the API gave to a request to `destination`, as the client at the other end expects it. */
export async function translateAnswer(
  answer: Response,
  request: Request,
  destination: Destination,
  { slice, bad }: Asked,
): Promise<Response> {
  const { tasks } = destination
  if (tasks === undefined) return answer
  const { status, headers } = answer
  const { method } = request
  translateLinks(headers, destination)
  const isList = status === 200 && tasks.isList && (method === 'GET' || method === 'HEAD')
  const total = Number(headers.get('x-total-count'))
  if (isList && slice) linkNext(headers, destination, slice, total)
  if (method === 'HEAD') {
    // HEAD makes no body, so its length is unknown. Without this the runtime would say 0.
    if (status === 200) {
      headers.delete('content-length')
      headers.set('transfer-encoding', 'chunked')
    }
    return new Response(null, { status, headers })
  }
  if (method === 'DELETE' && status === 204) {
    headers.set('content-type', 'application/json')
    return new Response(`{"id":${tasks.id},"message":"Task deleted"}`, { headers })
  }
  const type = headers.get('content-type')
  if (type === 'text/event-stream')
    return new Response(
      answer.body && translateInPieces(answer.body, wholeEventsIn, translateTasks),
      { headers },
    )
  if (type !== 'application/json') return answer
  if (status === 422 && bad)
    return new Response(renameLimit(await answer.text(), bad), { status, headers })
  let translate: TranslatePiece = translateTasks
  // A whole array stays as it is.
  if (isList && (slice || destination.dialect !== 'array'))
    translate = createListTranslator(destination.dialect, slice, total)
  const body = isSentInParts(request)
    ? translateInPieces(answer.body!, wholeTasksIn, translate)
    : translate(await answer.text(), true)
  return new Response(body, { status, headers })
}

function wholeEventsIn(text: string): number {
  const last = text.lastIndexOf('\n\n')
  return last === -1 ? 0 : last + '\n\n'.length
}

function translateLinks(headers: Headers, { inner, outer, tasks }: Destination): void {
  rename(headers, 'location', '/api/tasks', tasks!.collection)
  rename(headers, 'link', `<${inner}`, `<${outer}`)
}

function rename(headers: Headers, name: string, ours: string, theirs: string): void {
  const value = headers.get(name)
  // By a function: `$&` in a user's id would otherwise mean what was found.
  if (value)
    headers.set(
      name,
      value.replace(ours, () => theirs),
    )
}

function linkNext(
  headers: Headers,
  destination: Destination,
  { offset, limit }: Slice,
  total: number,
): void {
  headers.delete('link')
  if (offset + limit >= total) return
  const query = new URLSearchParams(destination.query)
  for (const name of ['skip', 'page']) query.delete(name)
  query.set('limit', String(limit))
  query.set('offset', String(offset + limit))
  headers.set('link', `<${destination.outer}?${query.toString()}>; rel="next"`)
}

type Refusal = { detail: string; errors: BadParameter[] }

/** The list refused a limit that stands for another parameter: see `askForSlice`. */
function renameLimit(json: string, bad: BadParameter): string {
  const refusal: Refusal = JSON.parse(json)
  const errors = refusal.errors.map((error) => (error.field === 'limit' ? bad : error))
  return JSON.stringify({
    ...refusal,
    detail: `${errors[0]!.field}: ${errors[0]!.detail}`,
    errors,
  })
}
