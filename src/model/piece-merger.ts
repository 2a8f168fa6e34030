import type { Pieces } from "./pieces.js";

/**
 * SentencePiece's BPE: of all neighbours that together are a piece, those are merged whose piece has the highest
 * score, the leftmost first; until none are left. Symbols lie in a doubly linked list, candidates in a heap, so
 * that a text without spaces costs n log n.
 */
export function mergePieces(text: string, pieces: Pieces): readonly string[] {
  const symbols: (string | undefined)[] = Array.from(text);
  const count = symbols.length;
  const next = Int32Array.from({ length: count }, (_, at) => (at + 1 < count ? at + 1 : -1));
  const previous = Int32Array.from({ length: count }, (_, at) => at - 1);
  const heap = new CandidateHeap();
  const consider = (left: number, right: number) => {
    if (left < 0 || right < 0) return;
    const merged = symbols[left]! + symbols[right]!;
    const id = merged.length > pieces.longest ? undefined : pieces.ids.get(merged);
    if (id !== undefined) heap.push({ left, right, length: merged.length, score: pieces.scores[id]! });
  };
  for (let at = 1; at < count; at++) consider(at - 1, at);
  for (let best = heap.pop(); best !== undefined; best = heap.pop()) {
    const { left, right, length } = best;
    const first = symbols[left];
    const second = symbols[right];
    // Stale when either has been merged with something else since.
    if (first === undefined || second === undefined || first.length + second.length !== length) continue;
    symbols[left] = first + second;
    symbols[right] = undefined;
    const after = next[right]!;
    next[left] = after;
    if (after >= 0) previous[after] = left;
    consider(previous[left]!, left);
    consider(left, after);
  }
  return symbols.filter((symbol) => symbol !== undefined);
}

interface Candidate {
  readonly left: number;
  readonly right: number;
  /** UTF-16 units of both. */
  readonly length: number;
  readonly score: number;
}

/** Binary heap: the highest score on top, of equal ones the leftmost. */
class CandidateHeap {
  readonly #items: Candidate[] = [];

  push(item: Candidate): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!before(item, items[parent]!)) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const top = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return top;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && before(items[child + 1]!, items[child]!)) child++;
      if (!before(items[child]!, item)) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
    return top;
  }
}

function before(a: Candidate, b: Candidate): boolean {
  return a.score > b.score || (a.score === b.score && a.left < b.left);
}
