import type { Ahead } from "./admission.js";
import { StepTimes } from "./step-times.js";

/**
 * What a newcomer is to expect: time to the first token and time per output token, over all pairs, from what the
 * lanes last reported and what was admitted since. Pure: time is an argument.
 */

export interface ForecastOptions {
  readonly pairs: number;
  /** Rows that may decode at once, over all pairs, whatever the objective. */
  readonly maxRows: number;
  /** What decode steps take until a lane has told: as `StepTimes.toArray` writes it. */
  readonly decodeCost: ArrayLike<number>;
}

export interface PrefillReport {
  /** Prompt tokens waiting or being computed. */
  readonly queuedTokens: number;
  /** Rows of the lane's last step; 0: there was none, and what follows is a guess. */
  readonly lastRows: number;
  /** Share of it that ran beside decode. */
  readonly lastShared: number;
  /** What its steps take, as `StepTimes.toArray` writes it. */
  readonly cost: ArrayLike<number>;
}

/** A decode lane's last step, and what it knows of its steps. */
export interface DecodeReport {
  readonly lastRows: number;
  readonly lastTokens: number;
  readonly lastContext: number;
  /** Share of it that ran beside prefill. */
  readonly lastShared: number;
  /** Tokens drawn a row and step, lately: more than 1 with drafts that hold. */
  readonly drawnPerRow: number;
  /** As `StepTimes.toArray` writes it. */
  readonly cost: ArrayLike<number>;
}

/** A prompt admitted so long before a report came is in it, in milliseconds: it passes two mailboxes. */
const TRANSIT_MS = 2;
/** New tokens of a step in which long prompts are computed. */
const CHUNK = 256;
/** Weight of the newest report in the running means over steps. */
const NEWEST = 0.1;

export class Forecast {
  readonly #queued: Float64Array;
  /** By pair; undefined until its prefill lane has made a step. */
  readonly #prefillTimes: (StepTimes | undefined)[];
  readonly #prefillShared: Float64Array;
  #times: StepTimes;
  /** Prompts admitted so lately that no lane's report can tell of them. */
  #underWay: { readonly at: number; readonly tokens: number }[] = [];
  #drawnPerRow = 1;
  #tokensPerRow = 1;
  #contextPerRow = 0;
  #shared = 0;
  /** Results of `mostDecoding` since the last report, by objective. */
  readonly #most = new Map<number, number>();

  constructor(readonly options: ForecastOptions) {
    this.#queued = new Float64Array(options.pairs);
    this.#prefillTimes = new Array<StepTimes | undefined>(options.pairs).fill(undefined);
    this.#prefillShared = new Float64Array(options.pairs);
    const times = StepTimes.fromArray(options.decodeCost);
    if (!times) throw new RangeError("decodeCost is not what StepTimes.toArray writes.");
    this.#times = times;
  }

  prefill(pair: number, report: PrefillReport, now: number): void {
    const { queuedTokens, lastRows, lastShared, cost } = report;
    this.#underWay = this.#underWay.filter(({ at }) => at > now - TRANSIT_MS);
    this.#queued[pair] = queuedTokens;
    if (lastRows === 0) return;
    this.#prefillTimes[pair] = StepTimes.fromArray(cost) ?? this.#prefillTimes[pair];
    const shared = this.#prefillShared[pair] as number;
    this.#prefillShared[pair] = shared + (lastShared - shared) * NEWEST;
  }

  decode(report: DecodeReport): void {
    const { lastRows, lastTokens, lastContext, lastShared, drawnPerRow } = report;
    if (lastRows <= 0) return;
    this.#times = StepTimes.fromArray(report.cost) ?? this.#times;
    this.#tokensPerRow += (lastTokens / lastRows - this.#tokensPerRow) * NEWEST;
    this.#contextPerRow += (lastContext / lastRows - this.#contextPerRow) * NEWEST;
    this.#shared += (lastShared - this.#shared) * NEWEST;
    this.#drawnPerRow = Math.max(1, drawnPerRow);
    this.#most.clear();
  }

  /** A request was admitted. */
  sent(promptTokens: number, now: number): void {
    this.#underWay.push({ at: now, tokens: promptTokens });
  }

  /** Nothing is under way: the lanes were reset. */
  reset(): void {
    this.#underWay = [];
    this.#queued.fill(0);
  }

  /** Milliseconds of computing a prompt; 0 until a lane has computed any: a guess refuses nobody. */
  promptMs(promptTokens: number): number {
    let sum = 0;
    let known = 0;
    this.#prefillTimes.forEach((times, pair) => {
      if (!times) return;
      const shared = this.#prefillShared[pair] as number;
      const chunk = (tokens: number) => times.predict({ rows: 1, tokens, contextTokens: 0, shared });
      const rest = promptTokens % CHUNK;
      sum += Math.floor(promptTokens / CHUNK) * chunk(CHUNK) + (rest > 0 ? chunk(rest) : 0);
      known++;
    });
    return known > 0 ? sum / known : 0;
  }

  /**
   * Milliseconds until a newcomer's prompt is begun, if it is admitted after `admittedMs`. The prompts before it
   * are computed meanwhile, so of the two waits the longer counts.
   */
  waitMs(ahead: Pick<Ahead, "promptTokens">, admittedMs: number): number {
    let tokens = ahead.promptTokens;
    for (const sent of this.#underWay) tokens += sent.tokens;
    for (const queued of this.#queued) tokens += queued;
    // Several prompts share a step, so that they take what a long one does.
    const backlogMs = (tokens / CHUNK) * this.promptMs(CHUNK);
    return Math.max(admittedMs, backlogMs / this.options.pairs);
  }

  /** Milliseconds an output token when `requests` decode, shared out evenly over the pairs. */
  outputTokenMs(requests: number): number {
    const rows = Math.max(1, Math.ceil(requests / this.options.pairs));
    const tokens = rows * this.#tokensPerRow;
    const contextTokens = rows * this.#contextPerRow;
    return this.#times.predict({ rows, tokens, contextTokens, shared: this.#shared }) / this.#drawnPerRow;
  }

  /** Requests that may decode at once at no more than `ms` an output token; at least one a pair. 0: no objective. */
  mostDecoding(ms: number): number {
    const { pairs, maxRows } = this.options;
    if (ms <= 0) return maxRows;
    const known = this.#most.get(ms);
    if (known !== undefined) return known;
    let rows = Math.max(1, Math.floor(maxRows / pairs));
    // From above: a step of more rows may take less time, where kernels change their panels.
    while (rows > 1 && this.outputTokenMs(rows * pairs) > ms) rows--;
    this.#most.set(ms, rows * pairs);
    return rows * pairs;
  }
}
