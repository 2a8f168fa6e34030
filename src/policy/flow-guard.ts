import { Pace } from "./pace.js";
import type { RoutePolicy } from "./route-policy.js";

/**
 * FlowGuard: which stream pair a request goes to. For each pair it predicts the time to the first token and the
 * time per output token from what its lanes last reported and from what has been sent there since; the least
 * predicted cost wins, and of pairs that are as good as equal the one whose turn it is. The formulas are this
 * project's own (see docs/paper.md). Signals lie in typed arrays, a column each, so that a decision among a thousand
 * pairs is one pass over a few kilobytes.
 */

/** A lane's last step: what it held and how long it took, in milliseconds; 0: none yet. */
export interface LastStep {
  readonly rows: number;
  readonly tokens: number;
  readonly contextTokens: number;
  readonly ms: number;
}

export interface PrefillSignal {
  /** Tokens waiting or being computed that no cache is expected to hold. */
  readonly queuedTokens: number;
  /** Tokens computed or found, of prompts that are still there. */
  readonly contextTokens: number;
  /** Such tokens taken ever, in this incarnation. */
  readonly taken: number;
  /** Requests ended ever without a hand-off, in this incarnation. */
  readonly ended: number;
  readonly last: LastStep;
  /** How much later than predicted first tokens have come lately, in milliseconds. */
  readonly lateMs: number;
}

export interface DecodeSignal {
  readonly rows: number;
  /** Requests taken ever, in this incarnation. */
  readonly taken: number;
  readonly last: LastStep;
  /** Prompt tokens of its rows that are still to be computed there. */
  readonly queuedTokens: number;
  /** Tokens in the KV of its rows. */
  readonly contextTokens: number;
  /** Tokens that a row draws in a step: more than 1 with drafts. */
  readonly drawnPerRow: number;
  /** Blocks that are free or could be evicted. */
  readonly spareBlocks: number;
}

export interface FlowGuardConstants {
  readonly policy: RoutePolicy;
  /** Every prompt is computed in a decode lane, whatever else is said here. */
  readonly fused: boolean;
  /** Assumed computing time a prompt token until a lane has measured it, in milliseconds. */
  readonly unknownTokenMs: number;
  /** Assumed time of a decode step until a lane has measured it, in milliseconds. */
  readonly unknownStepMs: number;
  /** How much one more row lengthens a decode step until that has been measured, as a share of the step. */
  readonly rowShare: number;
  /** Rows in a step; more share steps in turn. */
  readonly maxRows: number;
  /** New tokens in a prefill step. */
  readonly stepTokens: number;
  /** Cost of moving a KV block between the lanes of a pair, in milliseconds; 0 in one pool. */
  readonly handOffBlockMs: number;
  /** A busy lane that has not reported for so long is taken to be that much later, in milliseconds. */
  readonly staleMs: number;
  /** What a missing KV block costs in waiting, in milliseconds. */
  readonly missingBlockMs: number;
  /** Pairs whose cost is so near the least, as a share of it, count as equal. */
  readonly nearShare: number;
  /** How much a prompt's computation delays others, as a share of its time: what makes a cached prefix worth more. */
  readonly burden: number;
  /** Weight of the time to the first token beside the time of all tokens after it. */
  readonly firstTokenWeight: number;
  /** Weight of what the rows already in a lane lose beside what the new one gets. */
  readonly othersShare: number;
  /** Prompt tokens to compute with which a request may go straight to a decode lane, at most; 0: none does. */
  readonly directTokens: number;
  /** Weight of what the rows there wait for it, beside what its first token gains. */
  readonly directCaution: number;
}

export interface RouteQuery {
  /** Prompt tokens. */
  readonly promptTokens: number;
  /** Output tokens expected. */
  readonly outputTokens: number;
  /** KV blocks it may need. */
  readonly blocks: number;
  /** Prompt tokens that each pool is expected to hold, by pool; absent: none. */
  readonly cached?: ArrayLike<number>;
}

export interface RouteChoice {
  readonly pair: number;
  /** Straight to the decode lane, which computes the prompt among its rows. */
  readonly direct: boolean;
  /** Predicted milliseconds to the first token, and per output token after it. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
}

/** Lateness of which nothing new is heard is half as much after this time, in milliseconds: some requests' life. */
const LATE_HALF_MS = 1000;
/** New tokens a row, with drafts, beyond which a decode step holds a prompt. */
const MOST_ROW_TOKENS = 4;

export class FlowGuard {
  readonly #alive: Uint8Array;
  readonly #pools: Uint32Array;
  readonly #queued: Float64Array;
  readonly #prefillTaken: Float64Array;
  readonly #prefillSent: Float64Array;
  readonly #prefillEnded: Float64Array;
  readonly #prefillPace: Pace;
  readonly #decodePace: Pace;
  readonly #lateMs: Float64Array;
  readonly #prefillAt: Float64Array;
  readonly #rows: Float64Array;
  readonly #decodeTaken: Float64Array;
  readonly #decodeSent: Float64Array;
  readonly #context: Float64Array;
  readonly #prefillContext: Float64Array;
  readonly #drawn: Float64Array;
  readonly #spare: Float64Array;
  readonly #blocksSent: Float64Array;
  /** Prompt tokens in a decode lane that it has yet to compute, and such sent since it said so. */
  readonly #directQueued: Float64Array;
  readonly #directSent: Float64Array;
  readonly #cost: Float64Array;
  #turn = 0;
  #random = 0x2545f491;

  /** `pools[pair]`: the KV pool of that pair; absent: all share one. */
  constructor(
    readonly pairs: number,
    readonly constants: FlowGuardConstants,
    pools?: ArrayLike<number>,
  ) {
    const column = () => new Float64Array(pairs);
    // Two bits a pair: prefill lane alive, decode lane alive.
    this.#alive = new Uint8Array(pairs).fill(3);
    this.#pools = pools ? Uint32Array.from(pools) : new Uint32Array(pairs);
    this.#queued = column();
    this.#prefillTaken = column();
    this.#prefillSent = column();
    this.#prefillEnded = column();
    const { unknownTokenMs, unknownStepMs, rowShare } = constants;
    this.#prefillPace = new Pace(pairs, {
      fixedMs: unknownStepMs,
      firstMs: 1000 * unknownTokenMs,
      secondMs: 0.1 * 1000 * unknownTokenMs,
    });
    this.#decodePace = new Pace(pairs, {
      fixedMs: unknownStepMs,
      firstMs: unknownStepMs * rowShare,
      secondMs: unknownStepMs * rowShare,
    });
    this.#lateMs = column();
    this.#prefillAt = column().fill(-1);
    this.#rows = column();
    this.#decodeTaken = column();
    this.#decodeSent = column();
    this.#context = column();
    this.#prefillContext = column();
    this.#drawn = column().fill(1);
    this.#spare = column().fill(Number.POSITIVE_INFINITY);
    this.#blocksSent = column();
    this.#directQueued = column();
    this.#directSent = column();
    this.#cost = column();
  }

  /** A prefill lane's report. */
  prefill(pair: number, signal: PrefillSignal, now: number): void {
    // A lane that reports is alive: its greeting may have given way to later signals.
    if ((this.#alive[pair]! & 1) === 0) this.up(pair, "prefill");
    this.#queued[pair] = signal.queuedTokens;
    this.#prefillContext[pair] = signal.contextTokens;
    this.#prefillTaken[pair] = signal.taken;
    // More taken than sent: counted across a restart of this router or the lane. Nothing is under way then.
    if (signal.taken > this.#prefillSent[pair]!) this.#prefillSent[pair] = signal.taken;
    this.#decodeSent[pair]! -= Math.max(0, signal.ended - this.#prefillEnded[pair]!);
    this.#prefillEnded[pair] = signal.ended;
    const { rows, tokens, contextTokens, ms } = signal.last;
    // Each row's tokens attend to its context.
    const attended = (tokens * (contextTokens + tokens / 2)) / Math.max(1, rows);
    this.#prefillPace.observe(pair, tokens / 1000, attended / 1e6, ms);
    this.#lateMs[pair] = signal.lateMs;
    this.#prefillAt[pair] = now;
  }

  /** A decode lane's report. */
  decode(pair: number, signal: DecodeSignal): void {
    if ((this.#alive[pair]! & 2) === 0) this.up(pair, "decode");
    this.#rows[pair] = signal.rows;
    this.#decodeTaken[pair] = signal.taken;
    if (signal.taken > this.#decodeSent[pair]!) this.#decodeSent[pair] = signal.taken;
    // A step with a prompt in it is no measure of others.
    const { rows, tokens, contextTokens, ms } = signal.last;
    if (tokens <= MOST_ROW_TOKENS * rows) this.#decodePace.observe(pair, rows, contextTokens / 1000, ms);
    this.#context[pair] = signal.contextTokens;
    if (signal.drawnPerRow > 0) this.#drawn[pair] = Math.max(1, signal.drawnPerRow);
    this.#spare[pair] = signal.spareBlocks;
    this.#blocksSent[pair] = 0;
    this.#directQueued[pair] = signal.queuedTokens;
    this.#directSent[pair] = 0;
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
      this.#prefillContext[pair] = 0;
      this.#prefillSent[pair] = 0;
      this.#prefillTaken[pair] = 0;
      this.#prefillEnded[pair] = 0;
      this.#lateMs[pair] = 0;
      // What died in prefill is not on its way to decode either.
      this.#decodeSent[pair] = this.#decodeTaken[pair]!;
      this.#prefillAt[pair] = -1;
    } else {
      this.#alive[pair]! |= 2;
      this.#rows[pair] = 0;
      this.#decodeSent[pair] = 0;
      this.#decodeTaken[pair] = 0;
      this.#directQueued[pair] = 0;
      this.#directSent[pair] = 0;
    }
  }

  /** The pair to send to, or undefined when no pair has both lanes alive. */
  choose(query: RouteQuery, now: number): RouteChoice | undefined {
    let least = Number.POSITIVE_INFINITY;
    for (let pair = 0; pair < this.pairs; pair++) {
      const cost = this.#alive[pair] === 3 ? this.#costOf(pair, query, now) : Number.POSITIVE_INFINITY;
      this.#cost[pair] = cost;
      if (cost < least) least = cost;
    }
    if (least === Number.POSITIVE_INFINITY) return undefined;
    // Of those as good as equal, predictions being what they are, the next in turn: so they share what comes.
    const enough = least + Math.abs(least) * this.constants.nearShare;
    let pair = this.#turn % this.pairs;
    while (this.#cost[pair]! > enough) pair = pair + 1 === this.pairs ? 0 : pair + 1;
    this.#turn = pair + 1;
    const direct = this.#goesDirect(pair, query, now);
    return {
      pair,
      direct,
      firstTokenMs: direct ? this.directMs(pair, query) : this.firstTokenMs(pair, query, now),
      tokenMs: this.tokenMs(pair),
    };
  }

  /** Accounts for a request sent to a pair: it counts as queued there until the lanes' reports include it. */
  sent(pair: number, query: RouteQuery, direct = false): void {
    const column = direct ? this.#directSent : this.#prefillSent;
    column[pair]! += this.uncached(pair, query);
    this.#decodeSent[pair]! += 1;
    this.#blocksSent[pair]! += query.blocks;
  }

  /** Prompt tokens that the pair has to compute. */
  uncached(pair: number, query: RouteQuery): number {
    return query.promptTokens - (query.cached?.[this.#pools[pair]!] ?? 0);
  }

  /** Predicted wait, computation and hand-off until the first token, in milliseconds. */
  firstTokenMs(pair: number, query: RouteQuery, now: number): number {
    const c = this.constants;
    const ahead = this.#ahead(pair);
    const missing = Math.max(0, query.blocks + this.#blocksSent[pair]! - this.#spare[pair]!);
    const tokens = ahead + this.uncached(pair, query);
    const steps = Math.ceil(tokens / c.stepTokens);
    const pace = this.#prefillPace;
    const own = (query.promptTokens * this.uncached(pair, query)) / 2e6;
    let ms = (tokens / 1000) * pace.firstMs + steps * pace.fixedMs + own * pace.secondMs;
    ms *= pace.factor(pair);
    ms += query.blocks * c.handOffBlockMs + missing * c.missingBlockMs;
    const age = this.#prefillAt[pair]! < 0 ? 0 : now - this.#prefillAt[pair]!;
    if (ahead > 0) ms += Math.max(0, age - c.staleMs);
    return ms + (this.#lateMs[pair]! * LATE_HALF_MS) / (LATE_HALF_MS + age);
  }

  /** Predicted time to the first token in the decode lane itself: the step in hand, then one with the prompt in it. */
  directMs(pair: number, query: RouteQuery): number {
    const pace = this.#decodePace;
    const rows = this.requests(pair);
    const step = pace.fixedMs + pace.firstMs * rows + (pace.secondMs * this.#context[pair]!) / 1000;
    const steps = rows > 0 ? 2 : 1;
    const ahead = this.#directQueued[pair]! + this.#directSent[pair]!;
    return (steps * step + this.#promptMs(ahead + this.uncached(pair, query))) * pace.factor(pair);
  }

  /** What so many prompt tokens add to a step, at the common pace. */
  #promptMs(tokens: number): number {
    return (tokens / 1000) * this.#prefillPace.firstMs;
  }

  #goesDirect(pair: number, query: RouteQuery, now: number): boolean {
    if (this.constants.fused) return true;
    const tokens = this.uncached(pair, query);
    if (this.constants.policy !== "flowguard" || !this.#mayGoDirect(pair, tokens)) return false;
    return this.directMs(pair, query) + this.#disturbance(pair, tokens) < this.firstTokenMs(pair, query, now);
  }

  /** A short prompt, and others before it on the usual way: an idle prefill lane disturbs nobody. */
  #mayGoDirect(pair: number, tokens: number): boolean {
    return tokens <= this.constants.directTokens && this.#ahead(pair) > 0;
  }

  /** Prompt tokens in the pair's prefill lane or on their way there. */
  #ahead(pair: number): number {
    return this.#queued[pair]! + Math.max(0, this.#prefillSent[pair]! - this.#prefillTaken[pair]!);
  }

  /** Predicted time per output token with this request among the rows, in milliseconds. */
  tokenMs(pair: number): number {
    return this.#tokenMsOf(pair, this.requests(pair) + 1, 0);
  }

  /** Requests in the pair's lanes or on their way there. */
  requests(pair: number): number {
    return this.#rows[pair]! + this.#coming(pair);
  }

  /** Milliseconds a token with so many rows, of which a new one brings `context` tokens. */
  #tokenMsOf(pair: number, rows: number, context: number): number {
    const pace = this.#decodePace;
    const inStep = Math.min(rows, this.constants.maxRows);
    const turns = rows / Math.max(1, inStep);
    const coming = this.#ahead(pair) + this.#prefillContext[pair]!;
    const all = this.#context[pair]! + coming + context;
    const ms = pace.fixedMs + pace.firstMs * inStep + (pace.secondMs * all) / (1000 * Math.max(1, turns));
    return (ms * pace.factor(pair) * Math.max(1, turns)) / this.#drawn[pair]!;
  }

  /** Requests on their way to the pair's decode lane. */
  #coming(pair: number): number {
    // `decodeSent` counts from routing, `taken` from adoption: the difference is in prefill or on its way.
    return Math.max(0, this.#decodeSent[pair]! - this.#decodeTaken[pair]!);
  }

  /** The first token by the better way, with what that costs the rows on it. */
  #firstTokenCost(pair: number, query: RouteQuery, now: number): number {
    if (this.constants.fused) return this.directMs(pair, query);
    const first = this.firstTokenMs(pair, query, now);
    const tokens = this.uncached(pair, query);
    if (!this.#mayGoDirect(pair, tokens)) return first;
    return Math.min(first, this.directMs(pair, query) + this.#disturbance(pair, tokens));
  }

  /** What so many prompt tokens in its steps cost the decode lane: each row there waits for them once. */
  #disturbance(pair: number, tokens: number): number {
    const { directCaution } = this.constants;
    return directCaution * this.requests(pair) * this.#promptMs(tokens) * this.#decodePace.factor(pair);
  }

  /** What the computation of its prompt costs those who come later. */
  #burden(pair: number, query: RouteQuery): number {
    const ms = (this.uncached(pair, query) / 1000) * this.#prefillPace.firstMs;
    return this.constants.burden * ms * this.#prefillPace.factor(pair);
  }

  #costOf(pair: number, query: RouteQuery, now: number): number {
    switch (this.constants.policy) {
      case "flowguard": {
        const rows = this.requests(pair);
        const own = this.#tokenMsOf(pair, rows + 1, query.promptTokens);
        // What the rows already there lose counts as much as what this one gets.
        const others = rows * (own - this.#tokenMsOf(pair, rows, 0));
        const first = this.constants.firstTokenWeight * this.#firstTokenCost(pair, query, now);
        const prefill = first + this.#burden(pair, query);
        return prefill + query.outputTokens * (own + this.constants.othersShare * others);
      }
      case "round-robin":
        return 0;
      case "random":
        this.#random ^= this.#random << 13;
        this.#random ^= this.#random >>> 17;
        this.#random ^= this.#random << 5;
        return 1 + (this.#random >>> 0);
      case "least-loaded":
        return this.requests(pair);
      case "prefix":
        return this.uncached(pair, query);
    }
  }
}
