import { PairRoles, type RoleConstants } from "./pair-roles.js";
import {
  type AssumedTimes,
  type DecodeSignal,
  PairSignals,
  type PrefillSignal,
  type Way,
} from "./pair-signals.js";
import type { RoutePolicy } from "./route-policy.js";
import { type RouteQuery, type SplitConstants, SplitPrices } from "./split-prices.js";

export type { RouteQuery };

/**
 * FlowGuard: which stream pair a request goes to, and which of its lanes do what. For each pair it predicts the time to
 * the first token and the time per output token from what is known of it (pair-signals.ts); the least predicted cost
 * wins, and of pairs that are as good as equal the one whose turn it is. The formulas are this project's own (see
 * docs/paper.md).
 */

export interface FlowGuardConstants extends AssumedTimes, RoleConstants, SplitConstants {
  readonly policy: RoutePolicy;
  /** Every prompt is computed in a decode lane, whatever else is said here. */
  readonly fused: boolean;
  /** Pairs whose cost is so near the least, as a share of it, count as equal. */
  readonly nearShare: number;
  /** How much a prompt's computation delays others, as a share of its time: what makes a cached prefix worth more. */
  readonly burden: number;
  /** Weight of the time to the first token beside the time of all tokens after it. */
  readonly firstTokenWeight: number;
  /** Prompt tokens to compute with which a request may go straight to a decode lane, at most; 0: none does. */
  readonly directTokens: number;
  /** Weight of what the rows there wait for it, beside what its first token gains. */
  readonly directCaution: number;
}

export interface RouteChoice extends Way {
  readonly pair: number;
  /** Predicted milliseconds to the first token, and per output token after it. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
}

/**
 * While prefill is full: weight of what the rows of a decode lane wait for a prompt. At 1 bursts cost the slowest answers
 * 15% a token, at 8 little is lent (`bench routing`, bursts and phases).
 */
const LENT_CAUTION = 3;
/**
 * Kept rows that a prompt is priced to delay, at most. They go back to the decode lane once prompts pile up, and are
 * delayed no more: in full they sent all prompts after a turn of the load to the few lanes that kept nothing, whose
 * queues took seconds to grow as dear (`bench routing`, phases at 8 pairs; 0 to 4 do alike, 8 is 9% slower).
 */
const MOST_DELAYED = 4;
const SPLIT: Way = { direct: false, keep: false };
const DIRECT: Way = { direct: true, keep: false };
const KEPT: Way = { direct: false, keep: true };

export class FlowGuard {
  readonly roles: PairRoles;
  readonly #signals: PairSignals;
  readonly #split: SplitPrices;
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
    const poolOf = pools ? Uint32Array.from(pools) : new Uint32Array(pairs);
    this.#split = new SplitPrices(this.#signals, poolOf, constants);
    this.#cost = new Float64Array(pairs);
  }

  /** A prefill lane's report; true when the pair's roles change with it. */
  prefill(pair: number, signal: PrefillSignal, now: number): boolean {
    this.#signals.prefill(pair, signal, now);
    return this.#balance(pair, now);
  }

  /** A decode lane's report; true when the pair's roles change with it. */
  decode(pair: number, signal: DecodeSignal, now: number): boolean {
    this.#signals.decode(pair, signal, now);
    return this.#balance(pair, now);
  }

  /** A request of a pair was promised `objectiveMs` to its first token, or per token after it, and missed it or did not. */
  judged(pair: number, token: boolean, objectiveMs: number, missed: boolean, now: number): void {
    const { missedFirst, missedTokens } = this.#signals;
    (token ? missedTokens : missedFirst).observe(pair, objectiveMs, missed, now);
  }

  /** Requests that missed what was promised of their first token, and of those after it, ever. */
  get missedFirst(): number {
    return this.#signals.missedFirst.missed;
  }

  get missedTokens(): number {
    return this.#signals.missedTokens.missed;
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
    const flowguard = this.constants.policy === "flowguard";
    const least = flowguard ? this.#priceAll(query, now) : this.#rankAll(query);
    if (least === Number.POSITIVE_INFINITY) return undefined;
    // Of those as good as equal, predictions being what they are, the next in turn: so they share what comes.
    const enough = least * (1 + this.constants.nearShare);
    let pair = this.#turn % this.pairs;
    while (this.#cost[pair]! > enough) pair = pair + 1 === this.pairs ? 0 : pair + 1;
    this.#turn = pair + 1;
    const { direct, keep } = this.#wayIn(pair, query, now);
    return {
      pair,
      direct,
      keep,
      firstTokenMs: direct ? this.directMs(pair, query, now) : this.firstTokenMs(pair, query, now),
      tokenMs: keep ? this.#keptTokenMs(pair, 1, 0, now) : this.tokenMs(pair),
    };
  }

  /** Accounts for a request sent to a pair: it counts as queued there until the lanes' reports include it. */
  sent(pair: number, query: RouteQuery, now: number, way: Way = SPLIT): void {
    const uncached = this.uncached(pair, query);
    this.#signals.sent(pair, uncached, query.promptTokens - uncached, query.blocks, way, now);
  }

  /** Prompt tokens that the pair has to compute. */
  uncached(pair: number, query: RouteQuery): number {
    return query.promptTokens - (query.cached?.[this.#split.pools[pair]!] ?? 0);
  }

  /** Predicted wait, computation and hand-off until the first token, in milliseconds. */
  firstTokenMs(pair: number, query: RouteQuery, now: number): number {
    this.#split.work(query, now, pair, pair + 1);
    return this.#split.firstMs[pair]!;
  }

  /** Predicted time to the first token in the decode lane itself: the step in hand, then one with the prompt in it. */
  directMs(pair: number, query: RouteQuery, now: number): number {
    const s = this.#signals;
    const rows = s.requests[pair]!;
    const step = s.decodeStepMs(rows, s.context[pair]!);
    const steps = rows > 0 ? 2 : 1;
    const tokens = s.directAhead[pair]! + this.uncached(pair, query);
    const still = this.#split.stillMs(pair, now);
    return still + (steps * step + this.#promptMs(tokens)) * s.decodePace.factor(pair);
  }

  /** Predicted time per output token with one row more, that has no context yet, in milliseconds. */
  tokenMs(pair: number): number {
    const s = this.#signals;
    const rows = this.requests(pair) + 1;
    const turns = Math.max(1, rows / this.constants.maxRows);
    const ms = s.decodeStepMs(rows / turns, s.rowContext[pair]!, turns);
    return (ms * s.decodePace.factor(pair) * turns) / s.drawn[pair]!;
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
      prefillSteps: (s.ahead[pair]! + s.directAhead[pair]!) / this.constants.stepTokens,
      prefillBusy: s.busyShare(pair, now),
    });
  }

  /** What so many prompt tokens add to a step, at the common pace. */
  #promptMs(tokens: number): number {
    return (tokens / 1000) * this.#signals.prefillPace.firstMs;
  }

  /** The way of least cost through a pair, the prices of this query being known. */
  #wayIn(pair: number, query: RouteQuery, now: number): Way {
    if (this.constants.fused) return DIRECT;
    if (this.constants.policy !== "flowguard") return SPLIT;
    const { firstTokenWeight } = this.constants;
    const output = this.#split.outputMs[pair]!;
    const first = this.#split.firstMs[pair]!;
    const direct = Math.min(first, this.#directCost(pair, query, now));
    const there = output + firstTokenWeight * direct;
    // What stays in the prefill lane begins there.
    const kept = this.#keptCost(pair, query, now) + firstTokenWeight * first;
    if (this.roles.keeps(pair) && kept < there) return KEPT;
    return direct < first ? DIRECT : SPLIT;
  }

  /** The first token straight from the decode lane, with what that costs the rows there; endless where it may not go. */
  #directCost(pair: number, query: RouteQuery, now: number): number {
    const tokens = this.uncached(pair, query);
    const lent = this.roles.computes(pair);
    // A short prompt, and others before it on the usual way: an idle prefill lane disturbs nobody.
    const may = lent || (tokens <= this.constants.directTokens && this.#signals.ahead[pair]! > 0);
    if (!may) return Number.POSITIVE_INFINITY;
    // Each row there waits for the prompt once; while prefill is full, what waits there is none of them.
    const { rows, requests, decodePace } = this.#signals;
    const weight = lent ? LENT_CAUTION * rows[pair]! : this.constants.directCaution * requests[pair]!;
    return this.directMs(pair, query, now) + weight * this.#promptMs(tokens) * decodePace.factor(pair);
  }

  /** Milliseconds a token in the prefill lane with so many rows more than it keeps, which bring `context` tokens. */
  #keptTokenMs(pair: number, more: number, context: number, now: number): number {
    const s = this.#signals;
    const ms = s.decodeStepMs(s.kept(pair) + more, s.keptContext[pair]! + context);
    // Steps of prompts come between.
    const left = Math.max(0.05, 1 - s.busyShare(pair, now));
    return (ms * s.prefillPace.factor(pair)) / (left * s.drawn[pair]!);
  }

  /** The output in the prefill lane. What the rows that it keeps lose counts beside what this one gets. */
  #keptCost(pair: number, query: RouteQuery, now: number): number {
    const s = this.#signals;
    const { outputTokens, promptTokens } = query;
    const rows = s.kept(pair);
    const step = this.#keptTokenMs(pair, 1, promptTokens, now);
    // Which way it missed its objectives a pair does not tell.
    const own = step + s.missedTokens.aboveMs(pair, now);
    const others = rows * (step - this.#keptTokenMs(pair, 0, 0, now));
    const { othersShare, directCaution, stepTokens } = this.constants;
    const all = outputTokens * (own + othersShare * others + this.#split.unevenMs(own));
    // It may stand still behind the prompts that wait, and behind one that comes: the slowest answers are such.
    const behind = s.ahead[pair]! + s.busyShare(pair, now) * stepTokens;
    return all + directCaution * this.#promptMs(behind);
  }

  /** Fills in the predicted cost of every pair, 0 or more, endless where a lane is down; returns the least. */
  #priceAll(query: RouteQuery, now: number): number {
    const { burden, directTokens, firstTokenWeight, fused } = this.constants;
    const { alive, ahead, prefillPace } = this.#signals;
    const { uncached, firstMs, outputMs } = this.#split;
    const costs = this.#cost;
    const { roles } = this;
    const { factors } = prefillPace;
    const promptMs = prefillPace.firstMs / 1000;
    this.#split.work(query, now);
    let least = Number.POSITIVE_INFINITY;
    for (let pair = 0; pair < costs.length; pair++) {
      const first = firstMs[pair]!;
      let own = outputMs[pair]! + firstTokenWeight * first;
      if (roles.lends(pair) || fused || (uncached[pair]! <= directTokens && ahead[pair]! > 0)) {
        const direct = fused ? this.directMs(pair, query, now) : this.#directCost(pair, query, now);
        if (fused || direct < first) own = outputMs[pair]! + firstTokenWeight * direct;
        if (roles.keeps(pair))
          own = Math.min(own, this.#keptCost(pair, query, now) + firstTokenWeight * first);
      }
      // What the computation of its prompt costs those who come later, and the rows that the lane keeps.
      const delayed = burden + Math.min(MOST_DELAYED, this.#signals.kept(pair));
      const cost = own + delayed * promptMs * uncached[pair]! * factors[pair]!;
      costs[pair] = alive[pair] === 3 ? cost : Number.POSITIVE_INFINITY;
      if (costs[pair]! < least) least = costs[pair]!;
    }
    return least;
  }

  /** The same by one of the usual rules. */
  #rankAll(query: RouteQuery): number {
    const { alive } = this.#signals;
    let least = Number.POSITIVE_INFINITY;
    for (let pair = 0; pair < this.pairs; pair++) {
      const cost = alive[pair] === 3 ? this.#rankOf(pair, query) : Number.POSITIVE_INFINITY;
      this.#cost[pair] = cost;
      if (cost < least) least = cost;
    }
    return least;
  }

  #rankOf(pair: number, query: RouteQuery): number {
    switch (this.constants.policy) {
      case "least-loaded":
        return this.requests(pair) + this.#signals.kept(pair);
      case "prefix":
        return this.uncached(pair, query);
      case "random":
        this.#random ^= this.#random << 13;
        this.#random ^= this.#random >>> 17;
        this.#random ^= this.#random << 5;
        return 1 + (this.#random >>> 0);
      default:
        return 0;
    }
  }
}
