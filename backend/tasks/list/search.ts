const longestPiece = 32 // characters

/**
 * Regular expressions that all match a text in which a word stands, however it is capitalized, its
 * accents are composed, or the marks of a letter are ordered: keyboards give them in another order
 * than either normal form. PostgreSQL's own ways to ignore case depend on the locale of the database.
 *
 * What a match costs grows with the square of the pattern's length if a text nearly repeats
 * itself. So a longer word is looked for in pieces, wherever they stand. In the text, `ß` and
 * `ẞ` must have been replaced with `ss`.
 */
export function patternsOf(word: string): string[] {
  return piecesOf(word.replace(/[ßẞ]/gu, 'ss')).map(patternOf)
}

const letters = new Intl.Segmenter('en', { granularity: 'grapheme' })

/** Cut between letters, not within them: their marks belong to them. */
function piecesOf(word: string): string[] {
  const pieces = ['']
  let length = 0
  for (const { segment } of letters.segment(word)) {
    const letter = Array.from(segment).slice(0, longestPiece)
    if (length + letter.length > longestPiece) {
      pieces.push('')
      length = 0
    }
    pieces[pieces.length - 1] += letter.join('')
    length += letter.length
  }
  return pieces
}

function patternOf(piece: string): string {
  const forms = new Set([piece, piece.normalize('NFC'), piece.normalize('NFD')])
  const patterns = [...forms].map((form) =>
    Array.from(form.matchAll(letterOrMarks), inAnyForm).join(''),
  )
  return [...new Set(patterns)].join('|')
}

const letterOrMarks = /\p{M}{2,}|[^]/gu

function inAnyForm([found]: RegExpMatchArray): string {
  const characters = Array.from(found)
  return characters.length === 1 ? inAnyCase(found) : `[${found}]{${characters.length}}`
}

/** Letters that a change of case makes of one another, besides what the runtime's rules know. */
const families = ['σςΣ', 'iıIİ']

function inAnyCase(character: string): string {
  const family = families.find((members) => members.includes(character)) ?? ''
  const cases = [character, character.toLowerCase(), character.toUpperCase(), ...Array.from(family)]
  const single = new Set(cases.filter((text) => Array.from(text).length === 1))
  if (single.size > 1) return `[${[...single].toSorted().join('')}]`
  return /[\p{L}\p{N}\p{M}]/u.test(character) ? character : `\\${character}`
}
