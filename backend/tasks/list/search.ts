/**
 * A regular expression that finds a word however it is capitalized, its accents are composed, or the
 * marks of a letter are ordered: keyboards give them in another order than either normal form.
 * PostgreSQL's own ways to ignore case depend on the locale of the database.
 */
export function patternOf(word: string): string {
  const forms = new Set([word, word.normalize('NFC'), word.normalize('NFD')])
  return [...forms]
    .map((form) => Array.from(form.matchAll(letterOrMarks), inAnyForm).join(''))
    .map((pattern) => pattern.replaceAll('[Ss][Ss]', '(?:[Ss][Ss]|[ßẞ])'))
    .join('|')
}

const mostRepetitions = 255 // that a regular expression of PostgreSQL's can ask for
const letterOrMarks = new RegExp(`\\p{M}{2,${mostRepetitions}}|[^]`, 'gu')

function inAnyForm([found]: RegExpMatchArray): string {
  const characters = Array.from(found)
  return characters.length === 1 ? inAnyCase(found) : `[${found}]{${characters.length}}`
}

/** Letters that a change of case makes of one another, beside what the runtime's rules know. */
const families = ['σςΣ', 'iıIİ', 'ßẞ']

function inAnyCase(character: string): string {
  const family = families.find((letters) => letters.includes(character)) ?? ''
  const cases = [character, character.toLowerCase(), character.toUpperCase(), ...Array.from(family)]
  const single = new Set(cases.filter((text) => Array.from(text).length === 1))
  const letter = `[${[...single].toSorted().join('')}]`
  if (family.includes('ß')) return `(?:${letter}|[Ss][Ss])`
  if (single.size > 1) return letter
  return /[\p{L}\p{N}\p{M}]/u.test(character) ? character : `\\${character}`
}
