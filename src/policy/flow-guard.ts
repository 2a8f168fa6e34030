import { PairRoles, type RoleConstants } from "./pair-roles.js";
import {
  type AssumedTimes,
  type DecodeSignal,
  PairSignals,
  type PrefillSignal,
  type Way,
} from "./pair-signals.js";
import type { RoutePolicy } from "./route-policy.js";

/**
 * FlowGuard: which stream pair a request goes to, and which of its lanes do what. For each pair it predicts the time to
 * the first token and the time per output token from what is known of it (pair-signals.ts); the least predicted cost
 * wins, and of pairs that are as good as equal the one whose turn it is. The formulas are this project's own (see
 * docs/paper.md).
 */

export interface FlowGuardConstants extends AssumedTimes, RoleConstants {
  readonly policy: RoutePolicy;
  /** Every prompt is computed in a decode lane, whatever else is said here. */
  readonly fused: boolean;
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

export interface RouteChoice extends Way {
  readonly pair: number;
  /** Predicted milliseconds to the first token, and per output token after it. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
}

/** Lateness of which nothing new is heard is half as much after this time, in milliseconds: some requests' life. */
const LATE_HALF_MS = 1000;
/**
 * While prefill is full: weight of what the rows of a decode lane wait for a prompt. At 1 bursts cost the slowest answers
 * 15% a token, at 8 little is lent (`bench routing`, bursts and phases).
 */
const LENT_CAUTION = 3;
const SPLIT: Way = { direct: false, keep: false };
const DIRECT: Way = { direct: true, keep: false };
const KEPT: Way = { direct: false, keep: true };

export class FlowGuard {
  readonly roles: PairRoles;
  readonly #signals: PairSignals;
  readonly #pools: Uint32Array;
  readonly #cost: Float64Array;
  #turn = 0;
  #random = 0x2545f491;

  /** `pools[pair]`: the KV pool of that pair; absent: all share one. */
  constructor(
    readonly pairs: number,
    readonly constants: FlowGuardConstants,
    pools?: ArrayLike<number>,
  ) {
    this.#signals = new PairSignals(pairs, constants);
    this.roles = new PairRoles(pairs, constants);
    this.#pools = pools ? Uint32Array.from(pools) : new Uint32Array(pairs);
    this.#cost = new Float64Array(pairs);
  }

  /** A prefill lane's report; true when the pair's roles change with it. */
  prefill(pair: number, signal: PrefillSignal, now: number): boolean {
    this.#signals.prefill(pair, signal, now);
    return this.#balance(pair, now);
  }

  /** A decode lane's report; true when the pair's roles change with it. */
  decode(pair: number, signal: DecodeSignal, now: number): boolean {
    this.#signals.decode(pair, signal);
    return this.#balance(pair, now);
  }

  /** A lane died. */
  down(pair: number, role: "prefill" | "decode"): void {
    this.#signals.down(pair, role);
    this.roles.reset(pair);
  }

  /** A lane is up with nothing taken: what was sent to its predecessor is not on its way to it. */
  up(pair: number, role: "prefill" | "decode"): void {
    this.#signals.up(pair, role);
  }

  /** The pair to send to, or undefined when no pair has both lanes alive. */
  choose(query: RouteQuery, now: number): RouteChoice | undefined {
    const { alive } = this.#signals;
    // Of those as good as equal, predictions being what they are, the next in turn: so they share what comes.
    const near = 1 + this.constants.nearShare;
    let enough = Number.POSITIVE_INFINITY;
    for (let pair = 0; pair < this.pairs; pair++) {
      const cost = alive[pair] === 3 ? this.#costOf(pair, query, now, enough) : Number.POSITIVE_INFINITY;
      this.#cost[pair] = cost;
      if (cost * near < enough) enough = cost * near;
    }
    if (enough === Number.POSITIVE_INFINITY) return undefined;
    let pair = this.#turn % this.pairs;
    while (this.#cost[pair]! > enough) pair = pair + 1 === this.pairs ? 0 : pair + 1;
    this.#turn = pair + 1;
    const { direct, keep } = this.#wayIn(pair, query, now);
    return {
      pair,
      direct,
      keep,
      firstTokenMs: direct ? this.directMs(pair, query) : this.firstTokenMs(pair, query, now),
      tokenMs: keep ? this.#keptTokenMs(pair, 1, 0, now) : this.tokenMs(pair),
    };
  }

  /** Accounts for a request sent to a pair: it counts as queued there until the lanes' reports include it. */
  sent(pair: number, query: RouteQuery, way: Way = SPLIT): void {
    this.#signals.sent(pair, this.uncached(pair, query), query.blocks, way);
  }

  /** Prompt tokens that the pair has to compute. */
  uncached(pair: number, query: RouteQuery): number {
    return query.promptTokens - (query.cached?.[this.#pools[pair]!] ?? 0);
  }

  /** Predicted wait, computation and hand-off until the first token, in milliseconds. */
  firstTokenMs(pair: number, query: RouteQuery, now: number): number {
    const c = this.constants;
    const s = this.#signals;
    const ahead = s.ahead[pair]!;
    const uncached = this.uncached(pair, query);
    const missing = Math.max(0, query.blocks + s.blocksSent[pair]! - s.spare[pair]!);
    const tokens = ahead + uncached;
    const steps = Math.ceil(tokens / c.stepTokens);
    const pace = s.prefillPace;
    const own = (query.promptTokens * uncached) / 2e6;
    let ms = (tokens / 1000) * pace.firstMs + steps * pace.fixedMs + own * pace.secondMs;
    ms *= pace.factor(pair);
    ms += query.blocks * c.handOffBlockMs + missing * c.missingBlockMs;
    const at = s.prefillAt[pair]!;
    const age = at < 0 ? 0 : now - at;
    if (ahead > 0) ms += Math.max(0, age - c.staleMs);
    const late = s.lateMs[pair]!;
    return late > 0 ? ms + (late * LATE_HALF_MS) / (LATE_HALF_MS + age) : ms;
  }

  /** Predicted time to the first token in the decode lane itself: the step in hand, then one with the prompt in it. */
  directMs(pair: number, query: RouteQuery): number {
    const s = this.#signals;
    const rows = s.requests[pair]!;
    const step = s.decodeStepMs(rows, s.context[pair]!);
    const steps = rows > 0 ? 2 : 1;
    const tokens = s.directAhead(pair) + this.uncached(pair, query);
    return (steps * step + this.#promptMs(tokens)) * s.decodePace.factor(pair);
  }

  /** Predicted time per output token with this request among the rows, in milliseconds. */
  tokenMs(pair: number): number {
    return this.#tokenMsOf(pair, this.requests(pair) + 1, 0);
  }

  /** Requests in the pair's lanes or on their way there, but for those that its prefill lane decodes. */
  requests(pair: number): number {
    return this.#signals.requests[pair]!;
  }

  #balance(pair: number, now: number): boolean {
    if (!this.constants.balanced) return false;
    const s = this.#signals;
    const rows = s.requests[pair]! + s.kept(pair);
    const turns = Math.max(1, rows / this.constants.maxRows);
    const context = s.context[pair]! + s.keptContext[pair]!;
    const all = turns * s.decodeStepMs(rows / turns, context, turns);
    return this.roles.observe(pair, {
      decode: all / s.decodeStepMs(1, 0),
      prefillSteps: (s.ahead[pair]! + s.directAhead(pair)) / this.constants.stepTokens,
      prefillBusy: s.busyShare(pair, now),
    });
  }

  /** What so many prompt tokens add to a step, at the common pace. */
  #promptMs(tokens: number): number {
    return (tokens / 1000) * this.#signals.prefillPace.firstMs;
  }

  /** The way of least cost through a pair. */
  #wayIn(pair: number, query: RouteQuery, now: number): Way {
    if (this.constants.fused) return DIRECT;
    if (this.constants.policy !== "flowguard") return SPLIT;
    const first = this.firstTokenMs(pair, query, now);
    const split = this.#outputCost(pair, query);
    if (this.roles.keeps(pair) && this.#keptCost(pair, query, now) < split) return KEPT;
    return this.#directCost(pair, query) < first ? DIRECT : SPLIT;
  }

  /** The first token straight from the decode lane, with what that costs the rows there; endless where it may not go. */
  #directCost(pair: number, query: RouteQuery): number {
    const tokens = this.uncached(pair, query);
    const lent = this.roles.computes(pair);
    // A short prompt, and others before it on the usual way: an idle prefill lane disturbs nobody.
    const may = lent || (tokens <= this.constants.directTokens && this.#signals.ahead[pair]! > 0);
    if (!may) return Number.POSITIVE_INFINITY;
    // Each row there waits for the prompt once; while prefill is full, what waits there is none of them.
    const { rows, requests, decodePace } = this.#signals;
    const weight = lent ? LENT_CAUTION * rows[pair]! : this.constants.directCaution * requests[pair]!;
    return this.directMs(pair, query) + weight * this.#promptMs(tokens) * decodePace.factor(pair);
  }

  /** Milliseconds a token with so many rows in the decode lane, of which a new one brings `context` tokens. */
  #tokenMsOf(pair: number, rows: number, context: number): number {
    const s = this.#signals;
    const inStep = Math.min(rows, this.constants.maxRows);
    const turns = Math.max(1, rows / Math.max(1, inStep));
    const all = s.context[pair]! + s.ahead[pair]! + s.prefillContext[pair]! + context;
    const ms = s.decodeStepMs(inStep, all, turns);
    return (ms * s.decodePace.factor(pair) * turns) / s.drawn[pair]!;
  }

  /** Milliseconds a token in the prefill lane with so many rows more than it keeps, which bring `context` tokens. */
  #keptTokenMs(pair: number, more: number, context: number, now: number): number {
    const s = this.#signals;
    const ms = s.decodeStepMs(s.kept(pair) + more, s.keptContext[pair]! + context);
    // Steps of prompts come between.
    const left = Math.max(0.05, 1 - s.busyShare(pair, now));
    return (ms * s.prefillPace.factor(pair)) / (left * s.drawn[pair]!);
  }

  /** The output in the decode lane. What the rows already there lose counts beside what this one gets. */
  #outputCost(pair: number, query: RouteQuery): number {
    const { requests, decodePace, drawn } = this.#signals;
    const rows = requests[pair]!;
    const { promptTokens } = query;
    const own = this.#tokenMsOf(pair, rows + 1, promptTokens);
    const row = decodePace.firstMs + (decodePace.secondMs * promptTokens) / 1000;
    const more =
      rows < this.constants.maxRows
        ? (row * decodePace.factors[pair]!) / drawn[pair]!
        : own - this.#tokenMsOf(pair, rows, 0);
    return query.outputTokens * (own + this.constants.othersShare * rows * more);
  }

  /** The same in the prefill lane. */
  #keptCost(pair: number, query: RouteQuery, now: number): number {
    const rows = this.#signals.kept(pair);
    const own = this.#keptTokenMs(pair, 1, query.promptTokens, now);
    const others = rows * (own - this.#keptTokenMs(pair, 0, 0, now));
    return query.outputTokens * (own + this.constants.othersShare * others);
  }

  /** What the computation of its prompt costs those who come later. */
  #burden(pair: number, query: RouteQuery): number {
    const ms = this.#promptMs(this.uncached(pair, query));
    return this.constants.burden * ms * this.#signals.prefillPace.factor(pair);
  }

  /** Cost of a pair, 0 or more; where it is above `enough`, at least something above that. */
  #costOf(pair: number, query: RouteQuery, now: number, enough: number): number {
    switch (this.constants.policy) {
      case "flowguard": {
        const split = this.#outputCost(pair, query);
        const output = this.roles.keeps(pair) ? Math.min(split, this.#keptCost(pair, query, now)) : split;
        const afterFirst = output + this.#burden(pair, query);
        // Most pairs are out of the question by now.
        if (afterFirst > enough) return afterFirst;
        if (this.constants.fused)
          return afterFirst + this.constants.firstTokenWeight * this.directMs(pair, query);
        const direct = this.#directCost(pair, query);
        return (
          afterFirst + this.constants.firstTokenWeight * Math.min(this.firstTokenMs(pair, query, now), direct)
        );
      }
      case "round-robin":
        return 0;
      case "random":
        this.#random ^= this.#random << 13;
        this.#random ^= this.#random >>> 17;
        this.#random ^= this.#random << 5;
        return 1 + (this.#random >>> 0);
      case "least-loaded":
        return this.requests(pair) + this.#signals.kept(pair);
      case "prefix":
        return this.uncached(pair, query);
    }
  }
}
