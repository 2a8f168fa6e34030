import { type StepShape, StepTimes } from "./step-times.js";

export type { StepShape };

/** A measured or assumed time of a step of one row without context. */
export interface StepPoint {
  readonly tokens: number;
  readonly ms: number;
}

export interface StepCostPrior {
  /** Ascending in tokens, at least two. */
  readonly points: readonly StepPoint[];
  /** Milliseconds a thousand tokens of context read, and attended to by a row's new tokens after its first. */
  readonly contextMs: number;
  readonly attendMs: number;
  /** Milliseconds a row after the first. */
  readonly rowMs: number;
  /** Factor on steps that ran beside lanes of the other kind. */
  readonly sharedFactor: number;
  /** Share of what was learnt that each step leaves: 0.999 goes back to the prior's doubt within a thousand steps. */
  readonly forgetting: number;
}

/** Doubt in the prior, as shares: all times wrong by one factor, each knot by one of its own; context and rows. */
const COMMON = 0.25;
const OWN = 0.1;
const UNMEASURED = 0.5;
/** What a thousand tokens of context, or a row, may cost at least in the prior's doubt, as a share of the least step. */
const LEAST_SHARE = 0.01;
/** Knots so many octaves apart have errors of their own that agree by 1/e. */
const OCTAVES = 1.5;
/** Assumed scatter of a step's time about its prediction at first, and its bounds, as shares. */
const SCATTER = 0.06;
const LEAST_SCATTER = 0.02;
const MOST_SCATTER = 0.4;
/** Weight of the newest step in scatter, error and shared factor: about the last fifty steps count. */
const NEWEST = 0.02;
/** A miss counts up to so many standard deviations: a thread that was descheduled says little about the next step. */
const CLIP = 3;
/** So many clipped misses in a row, all on one side, are no accidents: the machine has changed, and all is in doubt again. */
const SURPRISES = 4;
/** Scatter grows by so much on a step that was shared all along: how much its neighbour took is not known. */
const SHARED_DOUBT = 2;
const MOST_SHARED_FACTOR = 8;

/**
 * The step-cost model of one lane, learnt online: a Kalman filter over the numbers of `StepTimes`. Neighbouring
 * knots are correlated, and all knots share a common error, so that a step of one size corrects the sizes beside it,
 * and a machine that has become slower is slower at all sizes at once. Old evidence fades: the covariance drifts
 * back to the prior's, never beyond. Steps that ran beside lanes of the other kind count as slower by a factor that
 * is learnt too.
 */
export class StepCost {
  readonly times: StepTimes;
  readonly #size: number;
  /** Covariance of the coefficients and what it fades back to, row-major, in ms^2. */
  readonly #covariance: Float64Array;
  readonly #doubt: Float64Array;
  readonly #features: Float64Array;
  readonly #spread: Float64Array;
  #scatter = SCATTER * SCATTER;
  #error = 0;
  #observed = 0;
  /** Clipped misses in a row: above 0 steps took longer than believed, below 0 less. */
  #surprises = 0;

  constructor(readonly prior: StepCostPrior) {
    const { points, contextMs, attendMs, rowMs } = prior;
    this.#size = points.length + 3;
    const coefficients = Float64Array.of(...points.map(({ ms }) => ms), contextMs, attendMs, rowMs);
    const knots = Float64Array.from(points, ({ tokens }) => tokens);
    this.times = new StepTimes(knots, coefficients, prior.sharedFactor);
    this.#doubt = doubtOf(prior);
    this.#covariance = this.#doubt.slice();
    this.#features = new Float64Array(this.#size);
    this.#spread = new Float64Array(this.#size);
  }

  /** Predicted milliseconds of a step; always positive. */
  predict(shape: StepShape): number {
    return this.times.predict(shape);
  }

  /** Steps learnt from. */
  get observed(): number {
    return this.#observed;
  }

  /** Recent mean of |measured - predicted| / measured, predictions made before the step was known. */
  get error(): number {
    return this.#error;
  }

  /** Learns from a step that took `ms`. */
  observe(shape: StepShape, ms: number): void {
    if (!(ms > 0)) return;
    const size = this.#size;
    const { times } = this;
    const { coefficients } = times;
    const predicted = times.predict(shape);
    const newest = Math.max(NEWEST, 1 / ++this.#observed);
    this.#error += (Math.abs(ms - predicted) / ms - this.#error) * newest;

    const factor = times.factor(shape);
    const x = this.#features;
    times.describe(shape, x);
    let linear = 0;
    for (let i = 0; i < size; i++) {
      x[i]! *= factor;
      linear += x[i]! * coefficients[i]!;
    }
    const known = this.#fade(x);
    const noise = this.#scatter * predicted * predicted * (1 + SHARED_DOUBT * (shape.shared ?? 0)) ** 2;
    const miss = ms - linear;
    this.#learnScatter(miss, known, predicted);
    const variance = known + noise;
    const most = CLIP * Math.sqrt(variance);
    const believed = Math.max(-most, Math.min(most, miss));
    this.#countSurprises(miss === believed ? 0 : Math.sign(miss));
    for (let i = 0; i < size; i++) {
      const gain = this.#spread[i]! / variance;
      coefficients[i] = Math.max(0, coefficients[i]! + gain * believed);
      for (let j = 0; j < size; j++) this.#covariance[i * size + j]! -= gain * this.#spread[j]!;
    }
    this.#learnSharing(shape, ms, predicted / factor);
  }

  /** Lets old evidence fade; returns the variance of the prediction for features `x`, and leaves P x in #spread. */
  #fade(x: Float64Array): number {
    const size = this.#size;
    const p = this.#covariance;
    const { forgetting } = this.prior;
    let known = 0;
    for (let i = 0; i < size; i++) {
      let sum = 0;
      for (let j = 0; j < size; j++) {
        const at = i * size + j;
        p[at] = p[at]! * forgetting + this.#doubt[at]! * (1 - forgetting);
        sum += p[at]! * x[j]!;
      }
      this.#spread[i] = sum;
      known += sum * x[i]!;
    }
    return known;
  }

  #countSurprises(side: number): void {
    this.#surprises = side === 0 || side * this.#surprises < 0 ? side : this.#surprises + side;
    if (Math.abs(this.#surprises) < SURPRISES) return;
    this.#surprises = 0;
    this.#covariance.set(this.#doubt);
  }

  #learnScatter(miss: number, known: number, predicted: number): void {
    const share = Math.max(0, miss * miss - known) / (predicted * predicted);
    const bounded = Math.min(MOST_SCATTER ** 2, Math.max(LEAST_SCATTER ** 2, share));
    this.#scatter += (bounded - this.#scatter) * NEWEST;
  }

  #learnSharing({ shared = 0 }: StepShape, ms: number, alone: number): void {
    if (shared < 0.1) return;
    const seen = 1 + (ms / alone - 1) / shared;
    const bounded = Math.min(MOST_SHARED_FACTOR, Math.max(1, seen));
    this.times.sharedFactor += (bounded - this.times.sharedFactor) * NEWEST * shared;
  }
}

/** The prior's covariance: see the constants above. */
function doubtOf({ points, contextMs, attendMs, rowMs }: StepCostPrior): Float64Array {
  const size = points.length + 3;
  const doubt = new Float64Array(size * size);
  points.forEach((a, i) => {
    points.forEach((b, j) => {
      const apart = Math.abs(Math.log2(a.tokens / b.tokens)) / OCTAVES;
      doubt[i * size + j] = a.ms * b.ms * (COMMON ** 2 + OWN ** 2 * Math.exp(-apart));
    });
  });
  const first = points[0]!.ms;
  [contextMs, attendMs, rowMs].forEach((ms, i) => {
    const at = points.length + i;
    doubt[at * size + at] = (UNMEASURED * Math.max(ms, LEAST_SHARE * first)) ** 2;
  });
  return doubt;
}

/** A prior without any measurement: a fixed time and a time a token. */
export function straightLine(fixedMs: number, tokenMs: number, mostTokens: number): StepPoint[] {
  const sizes = [1];
  for (let tokens = 2; tokens < mostTokens; tokens *= 2) sizes.push(tokens);
  sizes.push(Math.max(2, mostTokens));
  return sizes.map((tokens) => ({ tokens, ms: fixedMs + tokenMs * tokens }));
}
