import { Kind, TypeRegistry, type TSchema, type TUnsafe, Type } from '@sinclair/typebox'
import { ValueErrorType, type ValueError } from '@sinclair/typebox/errors'
import { t } from 'elysia'

/**
 * Kinds of value whose check is stricter, or more literal, than TypeBox's own. Each is plain JSON
 * Schema in the documentation: the same keywords, checked as JSON Schema defines them.
 */

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

function isText(schema: TextOptions, value: unknown, text: (raw: string) => string): boolean {
  if (typeof value !== 'string' || !isStorable(value)) return false
  let length = 0
  for (const _ of text(value)) length += 1
  return length >= (schema.minLength ?? 0) && length <= schema.maxLength
}

TypeRegistry.Set<TextOptions>('Text', (schema, value) => isText(schema, value, (raw) => raw))
TypeRegistry.Set<TextOptions>('TrimmedText', (schema, value) =>
  isText(schema, value, (raw) => raw.trim()),
)
TypeRegistry.Set('RowId', (_, value) => typeof value === 'string' && isRowId(value))

/** Text whose length counts code points, as JSON Schema says; TypeBox counts UTF-16 units. */
export function Text(options: TextOptions): TUnsafe<string> {
  return Type.Unsafe<string>({ ...options, [Kind]: 'Text', type: 'string' })
}

/** Text without the white space around it: what is counted and what is kept. */
export function TrimmedText(options: TextOptions) {
  return t
    .Transform(Type.Unsafe<string>({ ...options, [Kind]: 'TrimmedText', type: 'string' }))
    .Decode((raw) => raw.trim())
    .Encode((text) => text)
}

/**
 * A row's id in a path: `1` to `2^53−1` in plain decimal. Elysia's own number types also take
 * `1e3`, `0x10` and `01`, and round 9007199254740993 to another row.
 */
export function RowId(options: { description: string }) {
  return t
    .Transform(
      Type.Unsafe<string>({
        ...options,
        [Kind]: 'RowId',
        type: 'integer',
        minimum: 1,
        maximum: Number.MAX_SAFE_INTEGER,
      }),
    )
    .Decode(Number)
    .Encode(String)
}

function isRowId(text: string): boolean {
  return /^[1-9]\d{0,15}$/.test(text) && Number.isSafeInteger(Number(text))
}

/** What a value that failed should have been, for a person; it repeats nothing of the value. */
export function describeExpectation({ type, schema, path, value }: ValueError): string {
  if (value === undefined && path !== '') return 'is required'
  if (type === ValueErrorType.ObjectMinProperties)
    return `must have at least one of ${Object.keys(schema['properties'] ?? {}).join(', ')}`
  return `must be ${describeSchema(schema)}`
}

function describeSchema(schema: TSchema): string {
  const choices: unknown[] | undefined = schema['enum']
  if (choices) return `one of ${choices.join(', ')}`
  const alternatives: TSchema[] | undefined = schema['anyOf']
  if (alternatives)
    return alternatives.map((alternative) => describeSchema(alternative)).join(' or ')
  switch (schema['type']) {
    case 'boolean':
      return 'true or false'
    case 'integer':
      return `a whole number from ${schema['minimum']} to ${schema['maximum']}`
    case 'null':
      return 'null'
    case 'string':
      return `text of ${schema['minLength'] ?? 0} to ${schema['maxLength']} characters, without U+0000 and lone surrogates`
    case 'object':
      return 'a JSON object'
    default:
      return `of type ${schema['type']}`
  }
}
