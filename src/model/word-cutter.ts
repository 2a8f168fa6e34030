/** Cuts text into words by a pre-tokenizer's expressions, one after the other, each on the words that the one before left. */
export class WordCutter {
  readonly #cuts: readonly RegExp[];

  /** `cuts`: in Oniguruma's syntax, as the models' tokenizer files have them. */
  constructor(cuts: readonly string[]) {
    this.#cuts = cuts.map(javascriptExpression);
  }

  /** Where the words end, in UTF-16 units, in order; together they are the text, and none is empty. */
  ends(text: string): readonly number[] {
    let ends: readonly number[] = text === "" ? [] : [text.length];
    for (const cut of this.#cuts) {
      const finer: number[] = [];
      let from = 0;
      for (const end of ends) {
        cutWord(text.slice(from, end), from, cut, finer);
        from = end;
      }
      ends = finer;
    }
    return ends;
  }
}

/** Appends where the parts of a word that begins at `offset` end: matches, and what lies between them. */
function cutWord(word: string, offset: number, cut: RegExp, ends: number[]): void {
  let from = 0;
  cut.lastIndex = 0;
  for (let match = cut.exec(word); match !== null; match = cut.exec(word)) {
    if (match.index > from) ends.push(offset + match.index);
    from = match.index + match[0].length;
    if (match[0].length > 0) ends.push(offset + from);
    // An empty match would be found again for ever.
    else cut.lastIndex++;
  }
  if (from < word.length) ends.push(offset + word.length);
}

/**
 * The same expression in JavaScript, which has no case-insensitive groups in Node 20, and whose white space differs from
 * Unicode's: it lacks U+0085 and has U+FEFF.
 */
function javascriptExpression(cut: string): RegExp {
  const source = cut
    .replace(
      /\(\?i:([^()]*)\)/g,
      (_, group: string) =>
        `(?:${group.replace(/[a-z]/g, (letter) => `[${letter}${letter.toUpperCase()}]`)})`,
    )
    .replaceAll("\\s", "\\p{White_Space}")
    .replaceAll("\\S", "\\P{White_Space}");
  return new RegExp(source, "gu");
}
