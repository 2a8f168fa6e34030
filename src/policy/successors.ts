/**
 * What followed what: for each run of 1 to `longest` tokens the two tokens that followed it most, with counts. One
 * table holds all lengths; memory is fixed when it is made, and where it is full the weaker entry gives way. A token
 * costs `longest` updates, a look-up `longest` probes at most, whatever the text's length; nothing is allocated.
 *
 * It serves as suffix automaton and n-gram model at once: the longest known suffix wins, and among what followed it
 * the most frequent, of equals the latest.
 */
export class Successors {
  /** Entries side by side, so that a look-up touches one line of the cache: see KEY to TOTAL. */
  readonly #entries: Int32Array;
  readonly #mask: number;

  /** `size`: entries, a power of two; see `entriesFor`. `memory`: its entries, which other threads may read too. */
  constructor(
    readonly longest: number,
    readonly size: number,
    memory: ArrayBufferLike = new ArrayBuffer(size * ENTRY_BYTES),
  ) {
    this.#entries = new Int32Array(memory);
    this.#mask = size - 1;
  }

  /** Forgets everything, so that the memory can serve another text. */
  clear(): void {
    this.#entries.fill(0);
  }

  /** Notes that `token` follows the text that `suffix` ends. Tokens beyond MOST_TOKEN are not kept. */
  add(suffix: Suffix, token: number): void {
    if (token > MOST_TOKEN) return;
    const most = Math.min(this.longest, suffix.length);
    for (let n = 1; n <= most; n++) this.#count(suffix.key(n), token);
  }

  /** What most likely follows, by the longest suffix known; false: no suffix is known. */
  find(suffix: Suffix, into: Continuation): boolean {
    for (let n = Math.min(this.longest, suffix.length); n > 0; n--) {
      const at = this.#find(suffix.key(n));
      if (at < 0) continue;
      const first = this.#entries[at + FIRST]!;
      into.token = tokenOf(first);
      into.match = n;
      into.count = countOf(first);
      into.total = this.#entries[at + TOTAL]!;
      return true;
    }
    return false;
  }

  #count(key: number, token: number): void {
    const entries = this.#entries;
    const known = this.#find(key);
    if (known < 0) {
      const at = this.#weaker(key);
      entries[at + KEY] = key;
      entries[at + FIRST] = counted(token, 1);
      entries[at + SECOND] = 0;
      entries[at + TOTAL] = 1;
      return;
    }
    if (++entries[known + TOTAL]! >= MOST_COUNT || countOf(entries[known + FIRST]!) >= MOST_COUNT - 1)
      this.#halve(known);
    const first = entries[known + FIRST]!;
    const second = entries[known + SECOND]!;
    if (tokenOf(first) === token) {
      entries[known + FIRST] = first + ONE;
    } else if (countOf(second) > 0 && tokenOf(second) === token) {
      entries[known + SECOND] = second + ONE;
      if (countOf(second) + 1 >= countOf(first)) this.#swap(known);
    } else {
      entries[known + SECOND] = counted(token, 1);
      if (countOf(first) <= 1) this.#swap(known);
    }
  }

  /** Where the entry of a key begins, or -1. Each key has two places, side by side. */
  #find(key: number): number {
    const at = (key & this.#mask) * WORDS;
    if (this.#entries[at + KEY] === key) return at;
    const other = at ^ WORDS;
    return this.#entries[other + KEY] === key ? other : -1;
  }

  /** Which of a key's two places a new entry takes: an empty one, else the one that was seen less. */
  #weaker(key: number): number {
    const entries = this.#entries;
    const at = (key & this.#mask) * WORDS;
    if (entries[at + KEY] === 0) return at;
    if (entries[(at ^ WORDS) + KEY] === 0) return at ^ WORDS;
    const weaker = entries[at + TOTAL]! <= entries[(at ^ WORDS) + TOTAL]! ? at : at ^ WORDS;
    // What stays loses a point each time, or what was once frequent would stay for ever.
    const other = weaker ^ WORDS;
    if (entries[other + TOTAL]! > 1) entries[other + TOTAL]!--;
    return weaker;
  }

  #swap(at: number): void {
    const first = this.#entries[at + FIRST]!;
    this.#entries[at + FIRST] = this.#entries[at + SECOND]!;
    this.#entries[at + SECOND] = first;
  }

  #halve(at: number): void {
    const first = this.#entries[at + FIRST]!;
    const second = this.#entries[at + SECOND]!;
    this.#entries[at + TOTAL]! >>= 1;
    this.#entries[at + FIRST] = counted(tokenOf(first), (countOf(first) + 1) >> 1);
    this.#entries[at + SECOND] = counted(tokenOf(second), countOf(second) >> 1);
  }
}

/** Words of an entry: hash of its run (0: empty), the two tokens that followed it most with their counts, all counts. */
const WORDS = 4;
export const ENTRY_BYTES = 4 * WORDS;
const KEY = 0;
const FIRST = 1;
const SECOND = 2;
const TOTAL = 3;

/** A token and its count share a word: 19 bits for vocabularies of up to 524,288, 12 for the count. */
const TOKEN_BITS = 19;
const ONE = 1 << TOKEN_BITS;
const MOST_TOKEN = ONE - 1;
/** Counts are halved when their sum comes so far. */
const MOST_COUNT = 1 << 12;

function counted(token: number, count: number): number {
  return count * ONE + token;
}

function tokenOf(word: number): number {
  return word & MOST_TOKEN;
}

function countOf(word: number): number {
  return word >> TOKEN_BITS;
}

/** Entries (16 bytes) that hold a text of so many tokens with few losses: `most` at most, a power of two. */
export function entriesFor(tokens: number, longest: number, most: number): number {
  let size = 64;
  while (size < tokens * longest && size * 2 <= most) size *= 2;
  return size;
}

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
