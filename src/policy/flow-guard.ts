/**
 * FlowGuard: which stream pair a request goes to. For each pair it predicts the time to the first token and the
 * time per output token from what its lanes last reported and from what has been sent there since; the least
 * predicted cost wins. The formulas are this project's own (see docs/paper.md). Signals lie in typed arrays, a
 * column each, so that a decision among a thousand pairs is one pass over a few kilobytes.
 */

export interface PrefillSignal {
  /** Prompt tokens waiting or being computed. */
  readonly queuedTokens: number;
  /** Prompt tokens taken ever, in this incarnation. */
  readonly taken: number;
  /** Requests ended ever without a hand-off, in this incarnation. */
  readonly ended: number;
  /** Computing time a prompt token, in milliseconds; 0: not known yet. */
  readonly tokenMs: number;
}

export interface DecodeSignal {
  readonly rows: number;
  /** Requests taken ever, in this incarnation. */
  readonly taken: number;
  /** Time of a step, in milliseconds; 0: not known yet. */
  readonly stepMs: number;
  /** Blocks that are free or could be evicted. */
  readonly spareBlocks: number;
}

export interface FlowGuardConstants {
  /** Assumed computing time a prompt token until a lane has measured it, in milliseconds. */
  readonly unknownTokenMs: number;
  /** Assumed time of a decode step until a lane has measured it, in milliseconds. */
  readonly unknownStepMs: number;
  /** How much one more row lengthens a decode step, as a share of the step. */
  readonly rowShare: number;
  /** Rows in a step; more share steps in turn. */
  readonly maxRows: number;
  /** Cost of moving a KV block between the lanes of a pair, in milliseconds; 0 in one pool. */
  readonly handOffBlockMs: number;
  /** A busy lane that has not reported for so long is taken to be that much later, in milliseconds. */
  readonly staleMs: number;
  /** What a missing KV block costs in waiting, in milliseconds. */
  readonly missingBlockMs: number;
}

export interface RouteQuery {
  /** Prompt tokens to compute. */
  readonly promptTokens: number;
  /** Output tokens expected. */
  readonly outputTokens: number;
  /** KV blocks it may need. */
  readonly blocks: number;
}

export interface RouteChoice {
  readonly pair: number;
  /** Predicted milliseconds to the first token, and per output token after it. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
}

export class FlowGuard {
  readonly #alive: Uint8Array;
  readonly #queued: Float64Array;
  readonly #prefillTaken: Float64Array;
  readonly #prefillSent: Float64Array;
  readonly #prefillEnded: Float64Array;
  readonly #prefillTokenMs: Float64Array;
  readonly #prefillAt: Float64Array;
  readonly #rows: Float64Array;
  readonly #decodeTaken: Float64Array;
  readonly #decodeSent: Float64Array;
  readonly #stepMs: Float64Array;
  readonly #spare: Float64Array;
  readonly #decodeAt: Float64Array;
  readonly #blocksSent: Float64Array;
  #turn = 0;

  constructor(
    readonly pairs: number,
    readonly constants: FlowGuardConstants,
  ) {
    const column = () => new Float64Array(pairs);
    // Two bits a pair: prefill lane alive, decode lane alive.
    this.#alive = new Uint8Array(pairs).fill(3);
    this.#queued = column();
    this.#prefillTaken = column();
    this.#prefillSent = column();
    this.#prefillEnded = column();
    this.#prefillTokenMs = column();
    this.#prefillAt = column().fill(-1);
    this.#rows = column();
    this.#decodeTaken = column();
    this.#decodeSent = column();
    this.#stepMs = column();
    this.#spare = column().fill(Number.POSITIVE_INFINITY);
    this.#decodeAt = column().fill(-1);
    this.#blocksSent = column();
  }

  /** A prefill lane's report. */
  prefill(pair: number, signal: PrefillSignal, now: number): void {
    // A lane that reports is alive: its greeting may have given way to later signals.
    if ((this.#alive[pair]! & 1) === 0) this.up(pair, "prefill");
    this.#queued[pair] = signal.queuedTokens;
    this.#prefillTaken[pair] = signal.taken;
    // More taken than sent: counted across a restart of this router or the lane. Nothing is under way then.
    if (signal.taken > this.#prefillSent[pair]!) this.#prefillSent[pair] = signal.taken;
    this.#decodeSent[pair]! -= Math.max(0, signal.ended - this.#prefillEnded[pair]!);
    this.#prefillEnded[pair] = signal.ended;
    this.#prefillTokenMs[pair] = signal.tokenMs;
    this.#prefillAt[pair] = now;
  }

  /** A decode lane's report. */
  decode(pair: number, signal: DecodeSignal, now: number): void {
    if ((this.#alive[pair]! & 2) === 0) this.up(pair, "decode");
    this.#rows[pair] = signal.rows;
    this.#decodeTaken[pair] = signal.taken;
    if (signal.taken > this.#decodeSent[pair]!) this.#decodeSent[pair] = signal.taken;
    this.#stepMs[pair] = signal.stepMs;
    this.#spare[pair] = signal.spareBlocks;
    this.#decodeAt[pair] = now;
    this.#blocksSent[pair] = 0;
  }

  /** A lane died. */
  down(pair: number, role: "prefill" | "decode"): void {
    this.#alive[pair]! &= role === "prefill" ? 2 : 1;
  }

  /** A lane is up with nothing taken: what was sent to its predecessor is not on its way to it. */
  up(pair: number, role: "prefill" | "decode"): void {
    if (role === "prefill") {
      this.#alive[pair]! |= 1;
      this.#queued[pair] = 0;
      this.#prefillSent[pair] = 0;
      this.#prefillTaken[pair] = 0;
      this.#prefillEnded[pair] = 0;
      // What died in prefill is not on its way to decode either.
      this.#decodeSent[pair] = this.#decodeTaken[pair]!;
      this.#prefillAt[pair] = -1;
    } else {
      this.#alive[pair]! |= 2;
      this.#rows[pair] = 0;
      this.#decodeSent[pair] = 0;
      this.#decodeTaken[pair] = 0;
      this.#decodeAt[pair] = -1;
    }
  }

  /** The pair of least predicted cost, or undefined when no pair has both lanes alive. */
  choose(query: RouteQuery, now: number): RouteChoice | undefined {
    let best = -1;
    let bestCost = Number.POSITIVE_INFINITY;
    // Ties go round, so that idle pairs share out the first requests.
    const start = this.#turn++ % this.pairs;
    for (let n = 0; n < this.pairs; n++) {
      const pair = start + n < this.pairs ? start + n : start + n - this.pairs;
      if (this.#alive[pair] !== 3) continue;
      const cost = this.firstTokenMs(pair, query, now) + query.outputTokens * this.tokenMs(pair);
      if (cost < bestCost) {
        best = pair;
        bestCost = cost;
      }
    }
    if (best < 0) return undefined;
    return { pair: best, firstTokenMs: this.firstTokenMs(best, query, now), tokenMs: this.tokenMs(best) };
  }

  /** Accounts for a request sent to a pair: it counts as queued there until the lanes' reports include it. */
  sent(pair: number, query: RouteQuery): void {
    this.#prefillSent[pair]! += query.promptTokens;
    this.#decodeSent[pair]! += 1;
    this.#blocksSent[pair]! += query.blocks;
  }

  /** Predicted wait, computation and hand-off until the first token, in milliseconds. */
  firstTokenMs(pair: number, query: RouteQuery, now: number): number {
    const c = this.constants;
    const tokenMs = this.#prefillTokenMs[pair] || c.unknownTokenMs;
    const underWay = Math.max(0, this.#prefillSent[pair]! - this.#prefillTaken[pair]!);
    const ahead = this.#queued[pair]! + underWay;
    const missing = Math.max(0, query.blocks + this.#blocksSent[pair]! - this.#spare[pair]!);
    let ms = (ahead + query.promptTokens) * tokenMs;
    ms += query.blocks * c.handOffBlockMs + missing * c.missingBlockMs;
    return ms + (ahead > 0 ? this.#lateness(this.#prefillAt[pair]!, now) : 0);
  }

  /** Predicted time per output token with this request among the rows, in milliseconds. */
  tokenMs(pair: number): number {
    const c = this.constants;
    const step = this.#stepMs[pair] || c.unknownStepMs;
    // `decodeSent` counts from routing, `taken` from adoption: the difference is in prefill or on its way.
    const coming = Math.max(0, this.#decodeSent[pair]! - this.#decodeTaken[pair]!);
    const rows = this.#rows[pair]! + coming + 1;
    const inStep = Math.min(rows, c.maxRows);
    const turns = rows / inStep;
    const reported = Math.max(1, Math.min(this.#rows[pair]!, c.maxRows));
    return (step * turns * (1 + c.rowShare * inStep)) / (1 + c.rowShare * reported);
  }

  #lateness(reportedAt: number, now: number): number {
    if (reportedAt < 0) return 0;
    return Math.max(0, now - reportedAt - this.constants.staleMs);
  }
}
