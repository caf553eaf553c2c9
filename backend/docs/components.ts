import { Failure, failures, type FailureCode } from '../http/failures.ts'

/** The parts of a schema in which references are put. */
export type Schema = {
  title?: string
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  anyOf?: Schema[]
  additionalProperties?: unknown
  examples?: unknown[]
}

type Kind = 'schemas' | 'headers' | 'parameters' | 'responses'
export type Reference = { $ref: string }

export type Components = ReturnType<typeof createComponents>

/** Gathers what a document says in several places, and gives references to put there. */
export function createComponents() {
  const gathered: Record<Kind, Record<string, object>> = {
    schemas: {},
    headers: {},
    parameters: {},
    responses: {},
  }

  /** @throws Error if another component of this kind has the name: give one of them another */
  function refer(kind: Kind, name: string, given: object): Reference {
    // As it is printed: TypeBox marks what is optional with a symbol.
    const component: object = JSON.parse(JSON.stringify(given))
    const known = gathered[kind][name]
    if (known !== undefined && !Bun.deepEquals(known, component))
      throw new Error(`Two different ${kind} of the OpenAPI document are named ${name}`)
    gathered[kind][name] = component
    return { $ref: `#/components/${kind}/${name}` }
  }

  /**
   * The same schema with a reference to each one in it that has a title, which is its name. It is open to
   * other fields: Elysia closes a schema when it compiles it, and then drops them all the same.
   */
  function referInside({ title, ...schema }: Schema): object {
    const given = { ...schema }
    delete given.additionalProperties
    const { properties, items, anyOf } = given
    const whole = {
      ...given,
      ...(properties && {
        properties: Object.fromEntries(
          Object.entries(properties).map(([name, property]) => [name, referInside(property)]),
        ),
      }),
      ...(items && { items: referInside(items) }),
      ...(anyOf && { anyOf: anyOf.map(referInside) }),
    }
    const printed = isFailure(given) ? narrowed(whole) : whole
    return title === undefined ? printed : refer('schemas', title, printed)
  }

  /** What every failure has, by its name, and what this one adds: its codes, at least. */
  function narrowed({
    properties = {},
    required = [],
  }: {
    properties?: object
    required?: string[]
  }) {
    const own = Object.entries(properties).filter(([name]) => name === 'code' || !(name in base))
    return {
      allOf: [
        refer('schemas', 'Failure', anyFailure),
        {
          type: 'object',
          properties: Object.fromEntries(own),
          required: required.filter((name) => own.some(([key]) => key === name)),
        },
      ],
    }
  }

  return { gathered, refer, referInside }
}

const [first, ...others] = Object.keys(failures).filter(isTold)
const { type, properties: base, required } = Failure(first!, ...others)
const anyFailure = { type, properties: base, required }

function isFailure({ properties = {} }: Schema): boolean {
  return Object.keys(base).every((name) => name in properties)
}

/** All codes but the one that nobody is sent. */
function isTold(code: string): code is FailureCode {
  return code in failures && code !== 'client_left'
}
