import { Kind, Type, TypeRegistry, type TUnsafe } from '@sinclair/typebox'
import { expectation } from '../http/values.ts'
import { NoRule, readRule } from './rule.ts'

/** Why a text is no rule; nothing if it is one. */
function problemOf(text: unknown): string | undefined {
  if (typeof text !== 'string') return 'such as FREQ=WEEKLY;BYDAY=MO,TH'
  try {
    readRule(text)
    return undefined
  } catch (error) {
    if (error instanceof NoRule) return error.message
    throw error
  }
}

TypeRegistry.Set('RecurrenceRule', (_, text) => problemOf(text) === undefined)

/** A rule by which a task comes again, in any spelling that `readRule` reads. */
export function RecurrenceRule(options: {
  description: string
  examples: string[]
}): TUnsafe<string> {
  return Type.Unsafe<string>({
    ...options,
    [Kind]: 'RecurrenceRule',
    type: 'string',
    [expectation]: (text: unknown) => `a recurrence rule (RFC 5545) ${problemOf(text)}`,
  })
}
