import { Kind, TypeRegistry, type TSchema, type TUnsafe, Type } from '@sinclair/typebox'
import { ValueErrorType, type ValueError } from '@sinclair/typebox/errors'
import { t } from 'elysia'

/**
 * Kinds of value whose check is stricter, or more literal, than TypeBox's own. Each is plain JSON
 * Schema in the documentation: the same keywords, checked as JSON Schema defines them.
 */

/**
 * Under this key a schema says what it wants if its keywords do not: a text, or a function that makes one
 * for the value that was sent. Not part of the documentation.
 */
export const expectation = Symbol('expectation')

/**
 * Under this the schema of another spelling of a field says which field that is: refusals name it, wherever they
 * come from. Not part of the documentation.
 */
export const spelling = Symbol('spelling')

type TextOptions = {
  minLength?: number
  maxLength: number
  description?: string
  examples?: string[]
}

/** A NUL byte (PostgreSQL cannot store one) or half of a surrogate pair (UTF-8 cannot). */
export function isStorable(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

type TextsOptions = { items: TextOptions; maxItems: number; description: string }

const longestPrinted = 100 // characters

/** A stranger's text as a log may have it: cut, and without what a terminal would obey. */
export function printable(text: string): string {
  return text.slice(0, longestPrinted).replaceAll(/\p{C}/gu, '?')
}
/**
 * The category Cc of Unicode: C0, U+007F and C1. Nobody types them, JSON makes six bytes of most, and
 * a terminal obeys them.
 */
const controlCharacter = /(?![\t\n\r])\p{Cc}/u

function isText(schema: TextOptions, value: unknown, text: (raw: string) => string): boolean {
  if (typeof value !== 'string') return false
  const counted = text(value)
  // A code point has two units at most: what is far too long is not looked into.
  if (counted.length > 2 * schema.maxLength) return false
  if (!value.isWellFormed() || controlCharacter.test(value)) return false
  let length = 0
  for (const _ of counted) length += 1
  return length >= (schema.minLength ?? 0) && length <= schema.maxLength
}

TypeRegistry.Set<TextOptions>('Text', (schema, value) => isText(schema, value, (raw) => raw))
TypeRegistry.Set<TextOptions>('TrimmedText', (schema, value) =>
  isText(schema, value, (raw) => raw.trim()),
)
TypeRegistry.Set<TextsOptions>('DistinctTexts', (schema, value) => {
  if (!Array.isArray(value) || value.length > schema.maxItems) return false
  const texts: unknown[] = value
  return (
    texts.every((text) => isText(schema.items, text, (raw) => raw)) &&
    new Set(texts).size === texts.length
  )
})
TypeRegistry.Set<TextsOptions>('TextOrTexts', (schema, value) => {
  const texts: unknown[] = [value].flat()
  return (
    texts.length <= schema.maxItems &&
    texts.every((text) => isText(schema.items, text, (raw) => raw))
  )
})
TypeRegistry.Set<{ minimum: number; maximum: number }>('DecimalText', (schema, value) => {
  if (typeof value !== 'string' || !/^[1-9]\d{0,15}$/.test(value)) return false
  const number = Number(value)
  return Number.isSafeInteger(number) && number >= schema.minimum && number <= schema.maximum
})
TypeRegistry.Set('CalendarDate', (_, value) => typeof value === 'string' && isCalendarDate(value))
TypeRegistry.Set(
  'CalendarDateOrInstant',
  (_, value) => typeof value === 'string' && (isCalendarDate(value) || isInstant(value)),
)
TypeRegistry.Set('Instant', (_, value) => typeof value === 'string' && isInstant(value))
TypeRegistry.Set<{ enum: readonly string[] }>('OneOf', (schema, value) =>
  schema.enum.some((choice) => choice === value),
)
TypeRegistry.Set('YesOrNo', (_, value) => value === 'true' || value === 'false')
TypeRegistry.Set('TimeZone', (_, value) => typeof value === 'string' && isTimeZone(value))

/** Text whose length counts code points, as JSON Schema says; TypeBox counts UTF-16 units. */
export function Text(options: TextOptions): TUnsafe<string> {
  return Type.Unsafe<string>({ ...options, [Kind]: 'Text', type: 'string' })
}

/**
 * A list of texts, none of them twice. TypeBox's own check of `uniqueItems` hashes whatever the items
 * are, even those that have been refused already, which takes 1.7 s for 500 KB.
 */
export function DistinctTexts({ items, ...options }: TextsOptions): TUnsafe<string[]> {
  return Type.Unsafe<string[]>({
    ...options,
    [Kind]: 'DistinctTexts',
    type: 'array',
    items: Text(items),
    uniqueItems: true,
  })
}

/**
 * A parameter that may be given several times. Elysia's own lists would split a text at its commas.
 */
export function TextOrTexts(options: TextsOptions): TUnsafe<string | string[]> {
  return Type.Unsafe<string | string[]>({ ...options, [Kind]: 'TextOrTexts', type: 'array' })
}

/** Text without the white space around it: what is counted and what is kept. */
export function TrimmedText(options: TextOptions) {
  return t
    .Transform(Type.Unsafe<string>({ ...options, [Kind]: 'TrimmedText', type: 'string' }))
    .Decode((raw) => raw.trim())
    .Encode((text) => text)
}

/**
 * A whole number of 1 or more in a path or query, in plain decimal. Elysia's own number types also
 * take `1e3`, `0x10` and `01`, and round 9007199254740993 to another number.
 */
export function DecimalText(options: { minimum?: number; maximum: number; description?: string }) {
  return t
    .Transform(
      Type.Unsafe<string>({ minimum: 1, ...options, [Kind]: 'DecimalText', type: 'integer' }),
    )
    .Decode(Number)
    .Encode(String)
}

/** One of some words. Elysia's `UnionEnum` would make the first the default, and fill it in. */
export function OneOf<const Choices extends readonly string[]>(
  choices: Choices,
  options: { default?: Choices[number]; description?: string } = {},
): TUnsafe<Choices[number]> {
  return Type.Unsafe<Choices[number]>({
    ...options,
    [Kind]: 'OneOf',
    type: 'string',
    enum: choices,
  })
}

/** `true` or `false` in a query: text here, and for JSON Schema the boolean that a client sends. */
export function YesOrNo(options: { description: string }): TUnsafe<'true' | 'false'> {
  return Type.Unsafe<'true' | 'false'>({
    ...options,
    [Kind]: 'YesOrNo',
    type: 'boolean',
    [expectation]: 'one of true, false',
  })
}

/** A day that exists, as `YYYY-MM-DD`. */
export function CalendarDate(options: { description: string }): TUnsafe<string> {
  return Type.Unsafe<string>({ ...options, [Kind]: 'CalendarDate', type: 'string', format: 'date' })
}

/** A day that exists, or an instant (RFC 3339). */
export function CalendarDateOrInstant(options: { description: string }): TUnsafe<string> {
  return Type.Unsafe<string>({
    ...options,
    [Kind]: 'CalendarDateOrInstant',
    type: 'string',
    [expectation]: 'a date that exists, as YYYY-MM-DD, or an RFC 3339 instant',
  })
}

/** An instant (RFC 3339). */
export function Instant(options: { description: string }): TUnsafe<string> {
  return Type.Unsafe<string>({
    ...options,
    [Kind]: 'Instant',
    type: 'string',
    format: 'date-time',
    [expectation]: 'an RFC 3339 instant',
  })
}

/** The name of a time zone in the IANA database. */
export function TimeZone(options: { description: string }): TUnsafe<string> {
  return Type.Unsafe<string>({
    ...options,
    [Kind]: 'TimeZone',
    type: 'string',
    [expectation]: 'the name of a time zone, such as Europe/Paris',
  })
}

function isCalendarDate(text: string): boolean {
  if (!/^\d{4}-\d\d-\d\d$/.test(text) || text.startsWith('0000')) return false
  try {
    return Temporal.PlainDate.from(text, { overflow: 'reject' }).toString() === text
  } catch {
    return false
  }
}

/** Date, `T`, time with seconds, and `Z` or an offset (RFC 3339, 5.6). */
const instantShape = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)$/

export function isInstant(text: string): boolean {
  if (!instantShape.test(text)) return false
  try {
    const { year } = Temporal.Instant.from(text).toZonedDateTimeISO('UTC')
    return year >= 1 && year <= 9999
  } catch {
    return false
  }
}

function isTimeZone(name: string): boolean {
  // The runtime takes offsets and the like for zones, but they are not names in the IANA database.
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(name)) return false
  try {
    return Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}

/** If a list of texts failed because of some of its items, a problem for each of those. */
export function inDetail(problem: ValueError): ValueError[] {
  const { schema, value, path } = problem
  if (
    schema[Kind] !== 'DistinctTexts' ||
    !Array.isArray(value) ||
    value.length > schema['maxItems']
  )
    return [problem]
  const texts: unknown[] = value
  const wrong = texts.flatMap((text, index) =>
    isText(schema['items'], text, (raw) => raw)
      ? []
      : [{ ...problem, schema: schema['items'], path: `${path}/${index}`, value: text }],
  )
  return wrong.length > 0 ? wrong : [problem]
}

/** The field that has a value that failed; empty if it is the whole. */
export function nameField({ path, schema }: ValueError): string {
  const said: unknown = Reflect.get(schema, spelling)
  return typeof said === 'string' ? said : path.slice(1).replaceAll('/', '.')
}

/** What a value that failed should have been, for a person; it repeats nothing of the value. */
export function describeExpectation({ type, schema, path, value }: ValueError): string {
  if (value === undefined && path !== '') return 'is required'
  if (type === ValueErrorType.ObjectMinProperties)
    return `must have at least one of ${Object.keys(schema['properties'] ?? {}).join(', ')}`
  return describeWanted(schema, value)
}

/** What a schema wants, for a person. */
export function describeWanted(schema: TSchema, value?: unknown): string {
  return `must be ${describeSchema(schema, value)}`
}

function describeSchema(schema: TSchema, value?: unknown): string {
  const said: unknown = Reflect.get(schema, expectation)
  if (typeof said === 'function') return String(said(value))
  if (typeof said === 'string') return said
  const choices: unknown[] | undefined = schema['enum']
  if (choices) return `one of ${choices.join(', ')}`
  const alternatives: TSchema[] | undefined = schema['anyOf']
  if (alternatives)
    return alternatives.map((alternative) => describeSchema(alternative, value)).join(' or ')
  switch (schema['type']) {
    case 'boolean':
      return 'true or false'
    case 'integer':
      return `a whole number from ${schema['minimum']} to ${schema['maximum']}`
    case 'null':
      return 'null'
    case 'array':
      return `a list of ${schema['minItems'] ? `${schema['minItems']} to` : 'up to'} ${schema['maxItems']}${schema['uniqueItems'] ? ' distinct ones' : ''}, each ${describeSchema(schema['items'])}`
    case 'string':
      if (schema['format'] === 'date') return 'a date that exists, as YYYY-MM-DD'
      return `text of ${schema['minLength'] ?? 0} to ${schema['maxLength']} characters, without control characters (but tab, line feed, carriage return) and lone surrogates`
    case 'object':
      return 'a JSON object'
    default:
      return `of type ${schema['type']}`
  }
}
