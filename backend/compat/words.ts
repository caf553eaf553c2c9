const completed = '"completed":'
const done = 'true,"is_completed":true,"status":"completed"'
const toDo = 'false,"is_completed":false,"status":"pending"'
const noPriority = ',"priority":"none"'
const dueDate = '"due_date":'
const dueTime = '"due_time":'
const dueAt = '"due_at":'

/**
 * Tasks in the words of the dialects, in any JSON or event. PostgreSQL writes them
 * without white space, their columns in the order of `taskColumns`, and JSON writes a backslash before
 * every quote in a text, so no title can look like a field. Everything else is passed on unchanged.
 * Parsing a list and writing it again takes three times as long.
 */
export function translateTasks(json: string): string {
  let told = ''
  let toldTo = 0
  for (let at = json.indexOf(completed); at !== -1; at = json.indexOf(completed, toldTo)) {
    const value = at + completed.length
    const isCompleted = json[value] === 't'
    told += json.slice(toldTo, value)
    told += isCompleted ? done : toDo
    toldTo = value + (isCompleted ? 'true' : 'false').length
    if (json.startsWith(noPriority, toldTo)) {
      told += ',"priority":"medium"'
      toldTo += noPriority.length
    }
    const date = json.indexOf(dueDate, toldTo) + dueDate.length
    if (json[date] !== '"') continue
    const dateEnd = endOfText(json, date)
    const instant = json.indexOf(dueAt, date) + dueAt.length
    const time = json.indexOf(dueTime, date) + dueTime.length
    if (json[instant] === '"') {
      told += json.slice(toldTo, date) + json.slice(instant, endOfText(json, instant))
      toldTo = dateEnd
    } else if (json[time] === '"') {
      // At that time wherever the reader is: what a form sends, it reads.
      told += `${json.slice(toldTo, dateEnd - 1)}T${json.slice(time + 1, endOfText(json, time) - 1)}:00"`
      toldTo = dateEnd
    }
  }
  return told + json.slice(toldTo)
}

/** The end of a date or an instant, which has no quote in it. */
function endOfText(json: string, start: number): number {
  return json.indexOf('"', start + 1) + 1
}
