/**
 * How likely an idle KV block is to be asked for again, learnt while serving. Blocks fall into classes by their
 * history. For each class the model counts after how long an idle time its blocks were reused or given up, and
 * gives each age a worth: the most reuses per unit of idle time that keeping the block any longer can bring, or
 * Gittins' index of the bet (J. C. Gittins, 1979; used on cache entries as hit density in Beckmann, Chen and
 * Cidon's LHD, NSDI 2018). Times are counted in blocks asked for, so that nothing here reads a clock. The native
 * pool has the same model in src/native/kv/reuse_model.cpp; a test holds the two together.
 */

/** Ages are told apart by their two leading bits: two buckets an octave. */
export const AGE_BUCKETS = 48;

/** Bucket of an age, 0 for the youngest. */
export function ageBucket(age: number): number {
  const n = Math.min(age, 0x7fffff) + 2;
  const octave = 31 - Math.clz32(n);
  return Math.min(AGE_BUCKETS - 1, 2 * (octave - 1) + ((n >>> (octave - 1)) & 1));
}

/** Length of each bucket, and where it begins. */
const WIDTHS = Float64Array.from({ length: AGE_BUCKETS }, (_, b) => 2 ** (b >> 1));

/** Share of what was learnt that each refresh keeps. */
const KEEP = 0.95;
/** A class without evidence is taken to be like this many of its blocks: a tenth of them reused, soon. */
const PRIOR_LIVES = 4;
const PRIOR_REUSED = 0.1;

export class ReuseModel {
  readonly #reused: Float64Array;
  readonly #lost: Float64Array;
  readonly #worth: Float64Array;

  constructor(readonly classes: number) {
    this.#reused = new Float64Array(classes * AGE_BUCKETS);
    this.#lost = new Float64Array(classes * AGE_BUCKETS);
    this.#worth = new Float64Array(classes * AGE_BUCKETS);
    this.refresh(this.#lost);
  }

  /** An idle block of that class was asked for again after `age`. */
  reused(kind: number, age: number): void {
    this.#reused[kind * AGE_BUCKETS + ageBucket(age)]! += 1;
  }

  /** One was not, and is forgotten. */
  lost(kind: number, age: number): void {
    this.#lost[kind * AGE_BUCKETS + ageBucket(age)]! += 1;
  }

  /** Expected reuses per unit of time of keeping a block of that class and age. */
  worth(kind: number, age: number): number {
    return this.#worth[kind * AGE_BUCKETS + ageBucket(age)]!;
  }

  /**
   * Works the worths out anew. `waiting` counts, by class and age, the blocks whose end is not known: they have
   * lasted so long, and that is evidence too.
   */
  refresh(waiting: ArrayLike<number>): void {
    const hazard = new Float64Array(AGE_BUCKETS);
    for (let kind = 0; kind < this.classes; kind++) {
      const base = kind * AGE_BUCKETS;
      let atRisk = 0;
      for (let b = AGE_BUCKETS - 1; b >= 0; b--) {
        const prior = PRIOR_LIVES * (b === 0 ? 1 : 0);
        atRisk += this.#reused[base + b]! + this.#lost[base + b]! + waiting[base + b]! + prior;
        hazard[b] = (this.#reused[base + b]! + prior * PRIOR_REUSED) / Math.max(atRisk, 1e-9);
      }
      for (let b = 0; b < AGE_BUCKETS; b++) this.#worth[base + b] = bestBet(hazard, b);
      for (let b = 0; b < AGE_BUCKETS; b++) {
        this.#reused[base + b]! *= KEEP;
        this.#lost[base + b]! *= KEEP;
      }
    }
  }
}

/** The most reuses per unit of time of waiting from bucket `from` on, over all moments to stop at. */
function bestBet(hazard: Float64Array, from: number): number {
  let alive = 1;
  let reuses = 0;
  let time = 0;
  let best = 0;
  for (let b = from; b < AGE_BUCKETS; b++) {
    const h = hazard[b]!;
    reuses += alive * h;
    time += alive * (1 - h / 2) * WIDTHS[b]!;
    alive *= 1 - h;
    best = Math.max(best, reuses / time);
  }
  return best;
}
