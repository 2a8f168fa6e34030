/**
 * How long a step takes: fixed + perToken * new tokens + perContext * tokens of KV read. Recursive least
 * squares with forgetting, so that it follows the machine; the estimate starts from a prior and no coefficient
 * is believed to be negative.
 */
export interface StepShape {
  readonly tokens: number;
  readonly contextTokens: number;
}

export interface StepCostPrior {
  /** Milliseconds a step, a new token, and a thousand tokens of context. */
  readonly fixedMs: number;
  readonly tokenMs: number;
  readonly contextMs: number;
  /** Share of the past that each new step leaves: 0.99 remembers about a hundred steps. */
  readonly forgetting: number;
}

const SIZE = 3;
/** Variance of the prior, in ms^2: wide enough that some ten steps outweigh it. */
const WIDE = 100;

export class StepCost {
  readonly #weights: Float64Array;
  /** Covariance of the weights, row-major. */
  readonly #covariance = new Float64Array(SIZE * SIZE);
  readonly #gain = new Float64Array(SIZE);
  readonly #features = new Float64Array(SIZE);

  constructor(readonly prior: StepCostPrior) {
    this.#weights = Float64Array.of(prior.fixedMs, prior.tokenMs, prior.contextMs);
    for (let i = 0; i < SIZE; i++) this.#covariance[i * SIZE + i] = WIDE;
  }

  /** Predicted milliseconds; always positive. */
  predict(shape: StepShape): number {
    this.#describe(shape);
    let ms = 0;
    for (let i = 0; i < SIZE; i++) ms += Math.max(0, this.#weights[i]!) * this.#features[i]!;
    return Math.max(1e-3, ms);
  }

  /** Learns from a step that took `ms`. */
  observe(shape: StepShape, ms: number): void {
    this.#describe(shape);
    const x = this.#features;
    const p = this.#covariance;
    let spread = this.prior.forgetting;
    let predicted = 0;
    for (let i = 0; i < SIZE; i++) {
      let sum = 0;
      for (let j = 0; j < SIZE; j++) sum += p[i * SIZE + j]! * x[j]!;
      this.#gain[i] = sum;
      spread += sum * x[i]!;
      predicted += this.#weights[i]! * x[i]!;
    }
    const miss = ms - predicted;
    for (let i = 0; i < SIZE; i++) this.#weights[i]! += (this.#gain[i]! / spread) * miss;
    for (let i = 0; i < SIZE; i++) {
      for (let j = 0; j < SIZE; j++) {
        const next = (p[i * SIZE + j]! - (this.#gain[i]! * this.#gain[j]!) / spread) / this.prior.forgetting;
        // Steps all alike teach nothing about the other directions: their variance must not grow for ever.
        p[i * SIZE + j] = Math.min(WIDE, Math.max(-WIDE, next));
      }
    }
  }

  #describe({ tokens, contextTokens }: StepShape): void {
    this.#features[0] = 1;
    this.#features[1] = tokens;
    this.#features[2] = contextTokens / 1000;
  }
}
