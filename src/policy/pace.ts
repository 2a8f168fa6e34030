/**
 * What steps of many like lanes take, learnt from all their reports together: ms = factor of the lane x (a + b x first
 * + c x second), by recursive least squares with forgetting. One model for all keeps the noise of a single lane's
 * steps out of comparisons between lanes; the factor, a fading mean of measured over predicted, finds the slow one.
 */
export interface PacePrior {
  /** Milliseconds of a step, for each unit of the first measure, and for each of the second. */
  readonly fixedMs: number;
  readonly firstMs: number;
  readonly secondMs: number;
}

const SIZE = 3;
/** Reports over which the common model is learnt: about a thousand. */
const FORGETTING = 0.999;
/** Doubt in the prior, as the square of its share. */
const DOUBT = 1;
/** Weight of a lane's newest report in its factor, and the bounds of the factor. */
const NEWEST = 0.1;
const LEAST_FACTOR = 0.1;
const MOST_FACTOR = 10;
/** A factor within so much of 1 is taken for noise. */
const LIKE_OTHERS = 0.1;

export class Pace {
  readonly #weights: Float64Array;
  readonly #covariance = new Float64Array(SIZE * SIZE);
  readonly #limit: Float64Array;
  readonly #gain = new Float64Array(SIZE);
  readonly #x = new Float64Array(SIZE);
  readonly #measured: Float64Array;
  /** How many times longer each lane takes than the common pace: 1 where the difference may be noise. */
  readonly factors: Float64Array;

  constructor(
    readonly lanes: number,
    prior: PacePrior,
  ) {
    this.#weights = Float64Array.of(prior.fixedMs, prior.firstMs, prior.secondMs);
    this.#limit = this.#weights.map((weight) => DOUBT * Math.max(weight * weight, 1e-12));
    for (let i = 0; i < SIZE; i++) this.#covariance[i * SIZE + i] = this.#limit[i]!;
    this.#measured = new Float64Array(lanes).fill(1);
    this.factors = new Float64Array(lanes).fill(1);
  }

  /** Milliseconds of a step whatever its size, and for each unit of a measure, at the common pace. */
  get fixedMs(): number {
    return this.#weights[0]!;
  }

  get firstMs(): number {
    return this.#weights[1]!;
  }

  get secondMs(): number {
    return this.#weights[2]!;
  }

  /** How many times longer this lane takes than the common pace. */
  factor(lane: number): number {
    return this.factors[lane]!;
  }

  /** A step of `lane` of these measures took `ms`. */
  observe(lane: number, first: number, second: number, ms: number): void {
    if (!(ms > 0)) return;
    const x = this.#x;
    x[0] = 1;
    x[1] = first;
    x[2] = second;
    const w = this.#weights;
    const predicted = w[0]! + w[1]! * first + w[2]! * second;
    const ratio = Math.min(MOST_FACTOR, Math.max(LEAST_FACTOR, ms / Math.max(predicted, 1e-6)));
    const factor = this.#measured[lane]! + (ratio - this.#measured[lane]!) * NEWEST;
    this.#measured[lane] = factor;
    this.factors[lane] = Math.abs(factor - 1) <= LIKE_OTHERS ? 1 : factor;
    this.#learn(ms / this.factor(lane), predicted);
  }

  #learn(ms: number, predicted: number): void {
    const x = this.#x;
    const p = this.#covariance;
    // Steps scatter by some percent of their length.
    let spread = FORGETTING * Math.max(1e-6, (0.05 * predicted) ** 2);
    for (let i = 0; i < SIZE; i++) {
      let sum = 0;
      for (let j = 0; j < SIZE; j++) sum += p[i * SIZE + j]! * x[j]!;
      this.#gain[i] = sum;
      spread += sum * x[i]!;
    }
    const miss = ms - predicted;
    for (let i = 0; i < SIZE; i++) {
      this.#weights[i] = Math.max(0, this.#weights[i]! + (this.#gain[i]! / spread) * miss);
    }
    for (let i = 0; i < SIZE; i++) {
      for (let j = 0; j < SIZE; j++) {
        const next = (p[i * SIZE + j]! - (this.#gain[i]! * this.#gain[j]!) / spread) / FORGETTING;
        // Reports all alike teach nothing about other directions: their doubt must not grow for ever.
        const most = Math.sqrt(this.#limit[i]! * this.#limit[j]!);
        p[i * SIZE + j] = Math.min(most, Math.max(-most, next));
      }
    }
  }
}
