/** Cuts text at the tokens that stand whole in it: at each place the longest. */
export class Splitter {
  readonly #ids: ReadonlyMap<string, number>;
  readonly #strips: ReadonlySet<number>;
  /** First UTF-16 unit of tokens -> their lengths, longest first. */
  readonly #lengths = new Map<string, number[]>();
  /** By UTF-16 unit: 1 where a token begins so. Nearly all of a long text is passed by this look alone. */
  readonly #starts = new Uint8Array(1 << 16);

  /** `ids`: text -> id, no text empty. `strips`: ids after which white space is dropped. */
  constructor(ids: ReadonlyMap<string, number>, strips: ReadonlySet<number>) {
    this.#ids = ids;
    this.#strips = strips;
    for (const text of ids.keys()) {
      const lengths = this.#lengths.get(text.charAt(0)) ?? [];
      if (!lengths.includes(text.length)) lengths.push(text.length);
      this.#lengths.set(text.charAt(0), lengths);
      this.#starts[text.charCodeAt(0)] = 1;
    }
    for (const lengths of this.#lengths.values()) lengths.sort((a, b) => b - a);
  }

  /** The text's parts in order: strings between tokens, numbers for tokens. None is empty. */
  split(text: string): readonly (string | number)[] {
    const parts: (string | number)[] = [];
    let from = 0;
    for (let at = 0; at < text.length; ) {
      const token = this.#starts[text.charCodeAt(at)] === 0 ? undefined : this.#tokenAt(text, at);
      if (token === undefined) {
        at++;
        continue;
      }
      if (at > from) parts.push(text.slice(from, at));
      parts.push(token.id);
      at += token.length;
      if (this.#strips.has(token.id)) at = text.length - text.slice(at).trimStart().length;
      from = at;
    }
    if (from < text.length) parts.push(text.slice(from));
    return parts;
  }

  #tokenAt(text: string, at: number): { readonly id: number; readonly length: number } | undefined {
    for (const length of this.#lengths.get(text.charAt(at)) ?? []) {
      const id = this.#ids.get(text.slice(at, at + length));
      if (id !== undefined) return { id, length };
    }
    return undefined;
  }
}
