import { sortKeys } from '../tasks/schemas.ts'

/** What front ends call the list's parameters, and which of their values it knows. */
const spellings: [theirs: string, ours: string, valueOf: (value: string) => string | undefined][] =
  [
    ['is_completed', 'completed', (value) => yesOrNo.find((word) => word === value.toLowerCase())],
    ['status', 'status', (value) => statuses.get(value.toLowerCase())],
    ['task_status', 'status', (value) => statuses.get(value.toLowerCase())],
    ['status_filter', 'status', (value) => statuses.get(value.toLowerCase())],
    ['sort_by', 'sort', (value) => sorts.find((sort) => sort === inSnakeCase(value))],
    ['sort_order', 'order', (value) => orders.find((order) => order === value.toLowerCase())],
  ]

const statuses = new Map([
  ['all', 'all'],
  ['pending', 'pending'],
  ['active', 'pending'],
  ['false', 'pending'],
  ['completed', 'completed'],
  ['true', 'completed'],
])
const sorts = [...sortKeys, 'created_at', 'updated_at']
const orders = ['asc', 'desc']
const yesOrNo = ['true', 'false']

function inSnakeCase(value: string): string {
  return value.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/**
 * Gives parameters the names that the list has for them. A value that it does not know is left where
 * it is, and ignored, like a parameter that it does not know.
 */
export function renameParameters(query: URLSearchParams): void {
  for (const [theirs, ours, valueOf] of spellings) {
    const given = query.get(theirs)
    const value = given === null ? undefined : valueOf(given)
    if (value !== undefined && value !== query.get(ours)) query.set(ours, value)
  }
}
