import type postgres from 'postgres'

/** Runs one SQL statement with its parameters bound, and gives its rows. */
export type Query = <Row extends object>(
  strings: TemplateStringsArray,
  ...parameters: Parameter[]
) => Promise<Row[]>

/**
 * A piece of SQL with the values of its placeholders. The driver's own fragments are not used: each is a
 * promise, which runs if it is awaited or returned by mistake, and composing a statement from them cost
 * more than everything else that a write asks of this process.
 */
export class Fragment {
  /** The texts around the values: one more than there are values. */
  readonly texts: readonly string[]
  readonly values: readonly postgres.SerializableParameter[]
  private text: string | undefined

  constructor(strings: readonly string[], parameters: readonly Parameter[]) {
    const texts: string[] = []
    const values: postgres.SerializableParameter[] = []
    let text = strings[0]!
    for (let index = 0; index < parameters.length; index += 1) {
      const parameter = parameters[index]!
      if (parameter instanceof Fragment) {
        text += parameter.texts[0]!
        for (let place = 0; place < parameter.values.length; place += 1) {
          texts.push(text)
          values.push(parameter.values[place]!)
          text = parameter.texts[place + 1]!
        }
      } else {
        texts.push(text)
        values.push(parameter)
        text = ''
      }
      text += strings[index + 1]!
    }
    texts.push(text)
    this.texts = texts
    this.values = values
  }

  /** The statement, with `$1` and so on in place of the values. */
  get sql(): string {
    this.text ??= this.texts.reduce((sql, text, index) => `${sql}$${index}${text}`)
    return this.text
  }

  /** The same SQL with other values: a statement that is sent often is composed once. */
  with(values: readonly postgres.SerializableParameter[]): Fragment {
    const same = new Fragment(this.texts, values)
    same.text = this.sql
    return same
  }

  /** A template as a statement. A template that is only a fragment is that fragment. */
  static of(strings: readonly string[], parameters: readonly Parameter[]): Fragment {
    const [whole] = parameters
    const isWhole = whole instanceof Fragment && parameters.length === 1 && !strings.some(Boolean)
    return isWhole ? whole : new Fragment(strings, parameters)
  }
}

/** A value for a placeholder, or a piece of SQL. */
export type Parameter = postgres.SerializableParameter | Fragment
