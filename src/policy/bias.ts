/**
 * How far predictions fall short, learnt from what came of them: a factor that makes a share of `share` of them
 * suffice. A quantile by stochastic approximation on the logarithm: each miss raises it by `share` of a step, each
 * hit lowers it by the rest, so that in the long run it is missed about as often as it should be. Needs one number.
 */
export class Bias {
  #log = 0;

  constructor(readonly share: number) {}

  /** What a prediction is to be multiplied by. */
  get factor(): number {
    return Math.exp(this.#log);
  }

  /** What was predicted (without the factor) and what it was, in milliseconds. */
  observe(predictedMs: number, actualMs: number): void {
    const ratio = (actualMs + GRAIN_MS) / (predictedMs + GRAIN_MS);
    const move = ratio > this.factor ? STEP * this.share : STEP * (this.share - 1) - PULL * this.#log;
    this.#log = Math.min(MOST_LOG, Math.max(-MOST_LOG, this.#log + move));
  }
}

/** How much one observation moves the logarithm: some ten misses in a row double the factor. */
const STEP = 0.08;
/** Share of the logarithm that each hit takes off besides: what a stall taught is forgotten within a hundred. */
const PULL = 0.005;
/** The factor stays between 1/8 and 8: what is further off is no bias. */
const MOST_LOG = Math.log(8);
/** Errors of less are the clock's and the messages', in milliseconds. */
const GRAIN_MS = 5;
