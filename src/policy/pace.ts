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
/** All weights, a bit each. */
const ALL = (1 << SIZE) - 1;
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
  /** Fading mean of measured over predicted, of each lane; 0: it has not reported. Their sum, and how many they are. */
  readonly #measured: Float64Array;
  #sum = 0;
  #known = 0;
  /** How many times longer each lane takes than the common pace: 1 where the difference may be noise. */
  readonly factors: Float64Array;

  constructor(
    readonly lanes: number,
    prior: PacePrior,
  ) {
    this.#weights = Float64Array.of(prior.fixedMs, prior.firstMs, prior.secondMs);
    this.#limit = this.#weights.map((weight) => DOUBT * Math.max(weight * weight, 1e-12));
    for (let i = 0; i < SIZE; i++) this.#covariance[i * SIZE + i] = this.#limit[i]!;
    this.#measured = new Float64Array(lanes);
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
    const before = this.#measured[lane]!;
    const measured = before === 0 ? 1 + (ratio - 1) * NEWEST : before + (ratio - before) * NEWEST;
    this.#measured[lane] = measured;
    this.#sum += measured - before;
    if (before === 0) this.#known++;
    // What all lanes have in common is the model's to learn: left in the factors, nothing would hold the two together.
    const factor = (measured * this.#known) / this.#sum;
    this.factors[lane] = Math.abs(factor - 1) <= LIKE_OTHERS ? 1 : factor;
    this.#learn(ms / this.factor(lane), predicted);
  }

  #learn(ms: number, predicted: number): void {
    const x = this.#x;
    const p = this.#covariance;
    // Steps scatter by some percent of their length.
    const scatter = FORGETTING * Math.max(1e-6, (0.05 * predicted) ** 2);
    this.#move(ms - predicted, scatter);
    const spread = this.#project(ALL, scatter);
    for (let i = 0; i < SIZE; i++) {
      for (let j = 0; j < SIZE; j++) {
        p[i * SIZE + j]! = (p[i * SIZE + j]! - (this.#gain[i]! * this.#gain[j]!) / spread) / FORGETTING;
      }
      // Reports all alike teach nothing about other directions: their doubt must not grow for ever. Rows and columns
      // shrink together, so that this stays a covariance.
      const doubt = p[i * SIZE + i]!;
      x[i] = doubt > this.#limit[i]! ? Math.sqrt(this.#limit[i]! / doubt) : 1;
    }
    for (let i = 0; i < SIZE; i++) for (let j = 0; j < SIZE; j++) p[i * SIZE + j]! *= x[i]! * x[j]!;
  }

  /**
   * Moves the weights towards a measured step that was missed by `miss`. No weight falls below 0; one that is there and
   * would fall is left out and the others move without it, so that the prediction always comes nearer.
   */
  #move(miss: number, scatter: number): void {
    const w = this.#weights;
    let free = ALL;
    for (let i = 0; i < SIZE; i++) {
      const spread = this.#project(free, scatter);
      let least = 1;
      let stuck = 0;
      for (let k = 0; k < SIZE; k++) {
        const step = ((free >> k) & 1) * (this.#gain[k]! / spread) * miss;
        if (step >= 0) continue;
        if (w[k] === 0) stuck |= 1 << k;
        else least = Math.min(least, -w[k]! / step);
      }
      if (stuck === 0) {
        for (let k = 0; k < SIZE; k++) {
          const step = ((free >> k) & 1) * (this.#gain[k]! / spread) * miss;
          w[k] = Math.max(0, w[k]! + least * step);
        }
        return;
      }
      free &= ~stuck;
    }
  }

  /** The gain of those weights that are `free`, one bit each; returns what its products are to be divided by. */
  #project(free: number, scatter: number): number {
    let spread = scatter;
    for (let i = 0; i < SIZE; i++) {
      let sum = 0;
      for (let j = 0; j < SIZE; j++) sum += ((free >> j) & 1) * this.#covariance[i * SIZE + j]! * this.#x[j]!;
      this.#gain[i] = sum;
      spread += ((free >> i) & 1) * sum * this.#x[i]!;
    }
    return spread;
  }
}
