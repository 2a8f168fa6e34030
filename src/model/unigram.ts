import type { Pieces } from "./pieces.js";

/** What a character without a piece costs below the least likely piece, as sentencepiece has it. */
const UNKNOWN_PENALTY = 10;

/**
 * SentencePiece's unigram model: the cut whose pieces' log-probabilities have the largest sum (Viterbi). Characters
 * without a piece stand alone.
 */
export function bestPieces(text: string, pieces: Pieces): readonly string[] {
  const unknown = leastScore(pieces) - UNKNOWN_PENALTY;
  const best = new Float64Array(text.length + 1).fill(Number.NEGATIVE_INFINITY);
  const from = new Int32Array(text.length + 1);
  best[0] = 0;
  for (let at = 0; at < text.length; ) {
    const width = (text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1;
    const offer = (end: number, score: number) => {
      if (best[at]! + score <= best[end]!) return;
      best[end] = best[at]! + score;
      from[end] = at;
    };
    const most = Math.min(pieces.longest, text.length - at);
    let single = false;
    for (let length = width; length <= most; length++) {
      const id = pieces.ids.get(text.slice(at, at + length));
      if (id === undefined) continue;
      single ||= length === width;
      offer(at + length, pieces.scores[id]!);
    }
    if (!single) offer(at + width, unknown);
    at += width;
  }
  const cut: string[] = [];
  for (let end = text.length; end > 0; end = from[end]!) cut.push(text.slice(from[end], end));
  return cut.reverse();
}

const leastScores = new WeakMap<Pieces, number>();

function leastScore(pieces: Pieces): number {
  let least = leastScores.get(pieces);
  if (least === undefined) {
    least = 0;
    for (const id of pieces.ids.values()) least = Math.min(least, pieces.scores[id]!);
    leastScores.set(pieces, least);
  }
  return least;
}
