import { type Continuation, entriesFor, Successors, Suffix } from "./successors.js";
import {
  type DraftKind,
  Earnings,
  type Evidence,
  evidence,
  guessOf,
  modelEvidence,
  Survival,
} from "./survival.js";

export interface DraftingLimits {
  /** Drafts a row and step, at most. */
  readonly maxDepth: number;
  /** Longest and shortest suffix looked up, in tokens. */
  readonly longestSuffix: number;
  readonly shortestSuffix: number;
  /** Entries (16 bytes) that a request's own text may take, and the recent outputs of a tenant. */
  readonly ownEntries: number;
  readonly recentEntries: number;
  /** Tenants whose recent outputs are kept; the one longest unused gives way. */
  readonly tenants: number;
  /** Drafts are not followed beyond this probability of being reached. */
  readonly leastSurvival: number;
  /** Tries of each kind of evidence, and tokens of a request, after which old ones weigh 1/e. */
  readonly memoryTries: number;
  readonly memoryTokens: number;
  /** Tries that the prior counts as, and expected hits that a request is believed to be average for. */
  readonly priorTries: number;
  readonly priorHits: number;
}

/** Where drafts come from. */
export const OWN = 0;
export const RECENT = 1;
export const KNOWN = 2;
export const MODEL = 3;
export const DRAFTERS = ["own text", "recent outputs", "known answers", "draft model"] as const;
const KIND_OF: readonly DraftKind[] = ["text", "text", "known", "model"];
/** The first of them read text alone: asked at each position, and scored whether they were believed or not. */
const TABLES = 3;
/** Greedy and sampled requests keep promises differently: the evidence of each is kept apart. */
const KINDS = 2;

/** Spare tables of a size, at most: as many as leave a full batch at once. */
const MOST_SPARE = 32;

/**
 * Tokens of a tenant's greedy or sampled requests over which their drafts are judged, and expected hits that they are
 * believed to be average for: some thirty answers, and a part of one.
 */
const WORKLOAD_TOKENS = 4000;
const WORKLOAD_HITS = 30;

/** Probability that a draft of a draft model holds, until some have been made: high enough that it is tried. */
const FIRST_PROMISE = 0.7;
/** Weight of a draft in the mean of what a draft model promises: about the last hundred count. */
const NEWEST_PROMISE = 0.01;

/** What a lane remembers of a tenant: its recent outputs, and what drafts have been worth in its greedy and sampled requests. */
interface Tenant {
  readonly recent: Successors;
  readonly earnings: readonly Earnings[];
}

/** What the rows of a lane draft with together: recent outputs by tenant, known answers, and what drafts have been worth. */
export class LaneDrafts {
  readonly survival: Survival;
  /** What a draft of the draft model promised lately, on average: greedy requests, sampled ones. */
  readonly modelPromises = new Float64Array(KINDS).fill(FIRST_PROMISE);
  /** In order of use: the last is the latest. */
  readonly #tenants = new Map<number, Tenant>();
  /** Tables of requests that have left, by size: a table a request would be much garbage. */
  readonly #spare = new Map<number, Successors[]>();

  /** `known`: what the model has answered elsewhere, the same for all tenants. It is read, never written. */
  constructor(
    readonly limits: DraftingLimits,
    readonly known?: Successors | undefined,
  ) {
    this.survival = new Survival(
      DRAFTERS.length * KINDS,
      limits.memoryTries,
      limits.priorTries,
      (drafter, cell) => guessOf(KIND_OF[drafter % DRAFTERS.length]!, cell),
    );
  }

  /** What is remembered of a tenant, to which several rows may add. */
  tenant(tenant: number): Tenant {
    const { tenants } = this.limits;
    const found = this.#tenants.get(tenant) ?? this.#newTenant();
    this.#tenants.delete(tenant);
    this.#tenants.set(tenant, found);
    for (const oldest of this.#tenants.keys()) {
      if (this.#tenants.size <= tenants) break;
      this.#tenants.delete(oldest);
    }
    return found;
  }

  #newTenant(): Tenant {
    const { longestSuffix, recentEntries } = this.limits;
    const size = entriesFor(recentEntries, longestSuffix, recentEntries);
    return {
      recent: new Successors(longestSuffix, size),
      earnings: Array.from(
        { length: KINDS },
        () => new Earnings(DRAFTERS.length, WORKLOAD_TOKENS, WORKLOAD_HITS),
      ),
    };
  }

  /** An empty table for a request's own text of so many tokens; to be given back with `giveBack`. */
  lend(tokens: number): Successors {
    const { longestSuffix, ownEntries } = this.limits;
    const size = entriesFor(tokens, longestSuffix, ownEntries);
    return this.#spare.get(size)?.pop() ?? new Successors(longestSuffix, size);
  }

  /** Takes a table back that `lend` gave; its holder uses it no more. */
  giveBack(table: Successors): void {
    const spare = this.#spare.get(table.size) ?? [];
    this.#spare.set(table.size, spare);
    if (spare.length >= MOST_SPARE) return;
    table.clear();
    spare.push(table);
  }
}

/**
 * The drafts of one request. At each position all drafters are asked, each with its longest known suffix, and the one
 * whose draft is likeliest to hold is believed. Every token that is drawn scores what each of them would have said.
 */
export class RowDrafts {
  /** Of the drafts made last: probability that the first, the first two, ... hold; and who made each. */
  readonly survivals: Float64Array;
  readonly makers: Uint8Array;
  #drafted = 0;
  /** Of the draft model's drafts: themselves, their evidence, how many drafts they took the place of, and whether they agree so far. */
  readonly #guesses: Uint32Array;
  readonly #cells: Uint16Array;
  #rivals = 0;
  #agreeing = false;
  #closed = false;
  readonly #earnings: Earnings;
  /** The same over all requests of its workload. */
  readonly #workload: Earnings;
  readonly #kind: number;
  readonly #suffix: Suffix;
  /** The suffix as drafts extend it. */
  readonly #ahead: Suffix;
  /** What each drafter found last, and whether it found anything. */
  readonly #found: readonly Continuation[];
  readonly #knows: boolean[];
  readonly #own: Successors;
  readonly #recent: Successors;
  readonly #sources: readonly (Successors | undefined)[];

  /** `capacity`: tokens of prompt and output at most. `sampled`: tokens are drawn at a temperature above 0. */
  constructor(
    readonly lane: LaneDrafts,
    tenant: number,
    capacity: number,
    sampled: boolean,
  ) {
    const { limits } = lane;
    this.survivals = new Float64Array(limits.maxDepth);
    this.makers = new Uint8Array(limits.maxDepth);
    this.#guesses = new Uint32Array(limits.maxDepth);
    this.#cells = new Uint16Array(limits.maxDepth);
    this.#own = lane.lend(capacity);
    const { recent, earnings } = lane.tenant(tenant);
    this.#recent = recent;
    this.#sources = [this.#own, this.#recent, lane.known];
    this.#found = this.#sources.map(() => ({ token: 0, match: 0, count: 0, total: 0 }));
    this.#knows = this.#sources.map(() => false);
    this.#kind = sampled ? 1 : 0;
    this.#workload = earnings[this.#kind]!;
    this.#earnings = new Earnings(DRAFTERS.length, limits.memoryTokens, limits.priorHits, this.#workload);
    this.#suffix = new Suffix(limits.longestSuffix);
    this.#ahead = new Suffix(limits.longestSuffix);
  }

  /** The request has left: nothing else may be called any more. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.lane.giveBack(this.#own);
  }

  /** Takes tokens that were given, not drawn: the prompt. */
  read(tokens: ArrayLike<number>): void {
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      this.#own.add(this.#suffix, token);
      this.#suffix.push(token);
    }
  }

  /** Takes tokens that were drawn, and scores the drafters by them. */
  accept(tokens: ArrayLike<number>): void {
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      this.#look(this.#suffix);
      for (let drafter = 0; drafter < TABLES; drafter++) {
        if (this.#knows[drafter]) this.#score(drafter, token);
      }
      this.#own.add(this.#suffix, token);
      this.#recent.add(this.#suffix, token);
      this.#suffix.push(token);
    }
  }

  /**
   * Writes at most `most` drafts to `into` from `offset` on, as far as they survive with a probability of `least`;
   * returns how many. See `survivals` and `makers`.
   */
  draft(into: Uint32Array, offset: number, most: number, least = this.lane.limits.leastSurvival): number {
    const { maxDepth } = this.lane.limits;
    const count = Math.min(most, maxDepth);
    const ahead = this.#ahead;
    ahead.copy(this.#suffix);
    let survival = 1;
    let drafts = 0;
    while (drafts < count) {
      this.#look(ahead);
      const maker = this.#likeliest(TABLES);
      survival *= this.#promise(maker);
      if (survival < least || survival === 0) break;
      const { token } = this.#found[maker]!;
      into[offset + drafts] = token;
      this.survivals[drafts] = survival;
      this.makers[drafts] = maker;
      ahead.push(token);
      drafts++;
    }
    this.#drafted = drafts;
    return drafts;
  }

  /** Survival of the drafts made last, for `planDrafts`. */
  get outlook(): Float64Array {
    return this.survivals.subarray(0, this.#drafted);
  }

  /** Probability that the next draft of the draft model would hold, as far as is known without asking it. */
  get modelPromise(): number {
    return this.#earnings.adjust(MODEL, this.lane.modelPromises[this.#kind]!);
  }

  /**
   * Puts the draft model's draft number `index` in the place of what was drafted there and behind it: `token`, which the
   * model gave the probability `confidence`. To be called in order of `index`; returns the draft's survival.
   */
  replace(index: number, token: number, confidence: number, into: Uint32Array, offset: number): number {
    if (index === 0) {
      this.#rivals = this.#drafted;
      this.#agreeing = true;
    }
    const rival = this.#agreeing && index < this.#rivals ? into[offset + index] : undefined;
    this.#agreeing = rival === token;
    const number = this.#kind * DRAFTERS.length + MODEL;
    const cell = modelEvidence(number, index, confidence, rival === undefined ? undefined : rival === token);
    const probability = this.lane.survival.probability(cell);
    const promises = this.lane.modelPromises;
    promises[this.#kind]! += (probability - promises[this.#kind]!) * NEWEST_PROMISE;
    this.#guesses[index] = token;
    this.#cells[index] = cell;
    this.makers[index] = MODEL;
    const before = index === 0 ? 1 : this.survivals[index - 1]!;
    this.survivals[index] = before * this.#earnings.adjust(MODEL, probability);
    into[offset + index] = token;
    this.#drafted = index + 1;
    return this.survivals[index]!;
  }

  /**
   * A step drew `tokens`: scores the draft model's drafts as far as they tell what would have been, verified or not. To be
   * called before `accept`.
   */
  drew(tokens: ArrayLike<number>): void {
    for (let i = 0; i < this.#drafted && i < tokens.length; i++) {
      if (this.makers[i] !== MODEL) return;
      const cell = this.#cells[i]!;
      const held = this.#guesses[i] === tokens[i];
      this.#earn(MODEL, cell, held);
      this.lane.survival.observe(cell, held);
      if (!held) return;
    }
  }

  /** Asks all drafters what follows `suffix`. */
  #look(suffix: Suffix): void {
    const { shortestSuffix } = this.lane.limits;
    for (let drafter = 0; drafter < TABLES; drafter++) {
      const found = this.#found[drafter]!;
      const source = this.#sources[drafter];
      this.#knows[drafter] = source ? source.find(suffix, found) && found.match >= shortestSuffix : false;
    }
  }

  /** Of the first `count` drafters the one whose draft is likeliest to hold; of equals the first. */
  #likeliest(count: number): number {
    let best = 0;
    let promise = this.#promise(0);
    for (let drafter = 1; drafter < count; drafter++) {
      const other = this.#promise(drafter);
      if (other <= promise) continue;
      best = drafter;
      promise = other;
    }
    return best;
  }

  /** How likely what a drafter found holds; 0 when it knows nothing. */
  #promise(drafter: number): number {
    if (!this.#knows[drafter]) return 0;
    return this.#earnings.adjust(drafter, this.lane.survival.probability(this.#evidence(drafter)));
  }

  #score(drafter: number, token: number): void {
    const cell = this.#evidence(drafter);
    const held = this.#found[drafter]!.token === token;
    this.#earn(drafter, cell, held);
    this.lane.survival.observe(cell, held);
  }

  #earn(drafter: number, cell: Evidence, held: boolean): void {
    const promised = this.lane.survival.probability(cell);
    this.#earnings.observe(drafter, promised, held);
    this.#workload.observe(drafter, promised, held);
  }

  #evidence(drafter: number): Evidence {
    // Own text and recent outputs are held against each other, known answers against the better of both.
    const other = drafter === KNOWN ? this.#likeliest(KNOWN) : 1 - drafter;
    return evidence(
      this.#kind * DRAFTERS.length + drafter,
      this.#found[drafter]!,
      this.#knows[other] ? this.#found[other] : undefined,
    );
  }
}
