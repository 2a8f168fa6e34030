import type { Ahead } from "./admission.js";
import { StepCost, type StepCostPrior } from "./step-cost.js";

/**
 * What a newcomer is to expect: time to the first token and time per output token, over all pairs, from what the
 * lanes last reported and what was admitted since. Pure: it has no clock.
 */

export interface ForecastOptions {
  readonly pairs: number;
  /** Rows that may decode at once, over all pairs, whatever the objective. */
  readonly maxRows: number;
  /** Decode step assumed at first. */
  readonly prior: StepCostPrior;
}

export interface PrefillReport {
  /** Prompt tokens waiting or being computed. */
  readonly queuedTokens: number;
  /** Prompt tokens ever taken, in this incarnation. */
  readonly taken: number;
  /** Milliseconds a prompt token; 0: not known. */
  readonly tokenMs: number;
}

/** A decode lane's last step. */
export interface DecodeReport {
  readonly lastRows: number;
  readonly lastTokens: number;
  readonly lastContext: number;
  /** Milliseconds; 0: there was none. */
  readonly lastMs: number;
  /** Tokens drawn a row and step, lately: more than 1 with drafts that hold. */
  readonly drawnPerRow: number;
}

/** Weight of the newest report in the running mean of context a row. */
const NEWEST = 0.1;

export class Forecast {
  readonly #queued: Float64Array;
  readonly #taken: Float64Array;
  readonly #tokenMs: Float64Array;
  readonly #cost: StepCost;
  /** Prompt tokens admitted that no lane has reported as taken. */
  #underWay = 0;
  #drawnPerRow = 1;
  #tokensPerRow = 1;
  #contextPerRow = 0;

  constructor(readonly options: ForecastOptions) {
    this.#queued = new Float64Array(options.pairs);
    this.#taken = new Float64Array(options.pairs);
    this.#tokenMs = new Float64Array(options.pairs);
    this.#cost = new StepCost(options.prior);
  }

  prefill(pair: number, { queuedTokens, taken, tokenMs }: PrefillReport): void {
    const before = this.#taken[pair] as number;
    // Counted anew since a restart: what went to the one before is nowhere under way.
    this.#underWay = Math.max(0, this.#underWay - (taken >= before ? taken - before : taken));
    if (taken < before) this.#underWay = 0;
    this.#taken[pair] = taken;
    this.#queued[pair] = queuedTokens;
    if (tokenMs > 0) this.#tokenMs[pair] = tokenMs;
  }

  decode({ lastRows, lastTokens, lastContext, lastMs, drawnPerRow }: DecodeReport): void {
    if (lastMs <= 0 || lastRows <= 0) return;
    this.#cost.observe({ tokens: lastTokens, contextTokens: lastContext, rows: lastRows }, lastMs);
    this.#tokensPerRow += (lastTokens / lastRows - this.#tokensPerRow) * NEWEST;
    this.#contextPerRow += (lastContext / lastRows - this.#contextPerRow) * NEWEST;
    this.#drawnPerRow = Math.max(1, drawnPerRow);
  }

  /** A request was admitted. */
  sent(promptTokens: number): void {
    this.#underWay += promptTokens;
  }

  /** Nothing is under way: the lanes were reset. */
  reset(): void {
    this.#underWay = 0;
    this.#queued.fill(0);
  }

  /** Milliseconds of computing a prompt; 0 until a lane has measured any: a guess refuses nobody. */
  promptMs(promptTokens: number): number {
    let sum = 0;
    let known = 0;
    for (const ms of this.#tokenMs) {
      sum += ms;
      if (ms > 0) known++;
    }
    return known > 0 ? (promptTokens * sum) / known : 0;
  }

  /**
   * Milliseconds until a newcomer's prompt is begun, if it is admitted after `admittedMs`. The prompts before it
   * are computed meanwhile, so of the two waits the longer counts.
   */
  waitMs(ahead: Pick<Ahead, "promptTokens">, admittedMs: number): number {
    let tokens = ahead.promptTokens + this.#underWay;
    for (const queued of this.#queued) tokens += queued;
    return Math.max(admittedMs, this.promptMs(tokens) / this.options.pairs);
  }

  /** Milliseconds an output token when `requests` decode, shared out evenly over the pairs. */
  outputTokenMs(requests: number): number {
    const rows = Math.max(1, Math.ceil(requests / this.options.pairs));
    const shape = { rows, tokens: rows * this.#tokensPerRow, contextTokens: rows * this.#contextPerRow };
    return this.#cost.predict(shape) / this.#drawnPerRow;
  }

  /** Requests that may decode at once at no more than `ms` an output token; at least one a pair. 0: no objective. */
  mostDecoding(ms: number): number {
    const { pairs, maxRows } = this.options;
    if (ms <= 0) return maxRows;
    let low = 1;
    let high = Math.max(1, Math.floor(maxRows / pairs));
    // More rows never make a step shorter: halving finds the last that keeps to it.
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.outputTokenMs(middle * pairs) <= ms) low = middle;
      else high = middle - 1;
    }
    return low * pairs;
  }
}
