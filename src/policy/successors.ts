/**
 * What followed what: for each run of 1 to `longest` tokens the two tokens that followed it most, with counts. One
 * table holds all lengths; memory is fixed when it is made, and where it is full the weaker entry gives way. A token
 * costs `longest` updates, a look-up `longest` probes at most, whatever the text's length; nothing is allocated.
 *
 * It serves as suffix automaton and n-gram model at once: the longest known suffix wins, and among what followed it
 * the most frequent, of equals the latest.
 */
export class Successors {
  /** Hash of an entry's run; 0: empty. */
  readonly #keys: Int32Array;
  readonly #first: Uint32Array;
  readonly #firstCount: Uint16Array;
  readonly #second: Uint32Array;
  readonly #secondCount: Uint16Array;
  /** How often the run was followed by anything. */
  readonly #total: Uint16Array;
  readonly #mask: number;

  /** `size`: entries, a power of two; see `entriesFor`. */
  constructor(
    readonly longest: number,
    readonly size: number,
  ) {
    this.#keys = new Int32Array(size);
    this.#first = new Uint32Array(size);
    this.#firstCount = new Uint16Array(size);
    this.#second = new Uint32Array(size);
    this.#secondCount = new Uint16Array(size);
    this.#total = new Uint16Array(size);
    this.#mask = size - 1;
  }

  /** Forgets everything, so that the memory can serve another text. */
  clear(): void {
    this.#keys.fill(0);
  }

  /** Notes that `token` follows the text that `suffix` ends. */
  add(suffix: Suffix, token: number): void {
    const most = Math.min(this.longest, suffix.length);
    for (let n = 1; n <= most; n++) this.#count(suffix.key(n), token);
  }

  /** What most likely follows, by the longest suffix known; false: no suffix is known. */
  find(suffix: Suffix, into: Continuation): boolean {
    for (let n = Math.min(this.longest, suffix.length); n > 0; n--) {
      const slot = this.#slot(suffix.key(n));
      if (slot < 0) continue;
      into.token = this.#first[slot]!;
      into.match = n;
      into.count = this.#firstCount[slot]!;
      into.total = this.#total[slot]!;
      return true;
    }
    return false;
  }

  #count(key: number, token: number): void {
    let slot = this.#slot(key);
    if (slot < 0) {
      slot = this.#weaker(key);
      this.#keys[slot] = key;
      this.#first[slot] = token;
      this.#firstCount[slot] = 1;
      this.#secondCount[slot] = 0;
      this.#total[slot] = 1;
      return;
    }
    if (++this.#total[slot]! >= MOST_COUNT) this.#halve(slot);
    if (this.#first[slot] === token) {
      this.#firstCount[slot]!++;
    } else if (this.#secondCount[slot]! > 0 && this.#second[slot] === token) {
      if (++this.#secondCount[slot]! >= this.#firstCount[slot]!) this.#swap(slot);
    } else {
      this.#second[slot] = token;
      this.#secondCount[slot] = 1;
      if (this.#firstCount[slot]! <= 1) this.#swap(slot);
    }
  }

  /** The entry of a key, or -1. Each key has two places. */
  #slot(key: number): number {
    const place = key & this.#mask;
    if (this.#keys[place] === key) return place;
    return this.#keys[place ^ 1] === key ? place ^ 1 : -1;
  }

  /** Which of a key's two places a new entry takes: an empty one, else the one that was seen less. */
  #weaker(key: number): number {
    const place = key & this.#mask;
    if (this.#keys[place] === 0) return place;
    if (this.#keys[place ^ 1] === 0) return place ^ 1;
    const weaker = this.#total[place]! <= this.#total[place ^ 1]! ? place : place ^ 1;
    // What stays loses a point each time, or what was once frequent would stay for ever.
    const other = weaker ^ 1;
    if (this.#total[other]! > 1) this.#total[other]!--;
    return weaker;
  }

  #swap(slot: number): void {
    const token = this.#first[slot]!;
    const count = this.#firstCount[slot]!;
    this.#first[slot] = this.#second[slot]!;
    this.#firstCount[slot] = this.#secondCount[slot]!;
    this.#second[slot] = token;
    this.#secondCount[slot] = count;
  }

  #halve(slot: number): void {
    this.#total[slot]! >>= 1;
    this.#firstCount[slot]! = (this.#firstCount[slot]! + 1) >> 1;
    this.#secondCount[slot]! >>= 1;
  }
}

/** Entries (18 bytes) that hold a text of so many tokens with few losses: `most` at most, a power of two. */
export function entriesFor(tokens: number, longest: number, most: number): number {
  let size = 64;
  while (size < tokens * longest && size * 2 <= most) size *= 2;
  return size;
}

const MOST_COUNT = 0xffff;

/** What a look-up found. */
export interface Continuation {
  token: number;
  /** Tokens of the suffix that was known. */
  match: number;
  /** How often `token` followed it, and anything did. */
  count: number;
  total: number;
}

/**
 * The end of a text as keys of its last 1 to `longest` tokens. Made once and moved along: `push` takes `longest`
 * steps, `copy` lets drafts go on from a text without touching it.
 */
export class Suffix {
  /** The last tokens, the latest first. */
  readonly #tokens: Uint32Array;
  readonly #keys: Int32Array;
  #length = 0;

  constructor(readonly longest: number) {
    this.#tokens = new Uint32Array(longest);
    this.#keys = new Int32Array(longest + 1);
  }

  /** Tokens known, `longest` at most. */
  get length(): number {
    return this.#length;
  }

  push(token: number): void {
    const tokens = this.#tokens;
    tokens.copyWithin(1, 0);
    tokens[0] = token;
    if (this.#length < this.longest) this.#length++;
    let hash = 0x811c9dc5;
    for (let n = 1; n <= this.#length; n++) {
      hash = Math.imul(hash ^ tokens[n - 1]!, 0x01000193);
      hash ^= hash >>> 15;
      // A key names its length too; 0 marks empty entries.
      const key = Math.imul(hash ^ n, 0x9e3779b1);
      this.#keys[n] = (key ^ (key >>> 15)) | 0 || 1;
    }
  }

  /** Key of the last `n` tokens. */
  key(n: number): number {
    return this.#keys[n]!;
  }

  copy(from: Suffix): void {
    this.#tokens.set(from.#tokens);
    this.#keys.set(from.#keys);
    this.#length = from.#length;
  }
}
