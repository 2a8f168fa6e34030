import type { Continuation } from "./successors.js";
import { FIRST_KNOWN, FIRST_SURVIVAL } from "./survival-priors.js";

/** What is known of a draft when it is made, as the number of a cell of `Survival`. */
export type Evidence = number;

/** Suffixes of so many tokens and more are alike. */
const MATCHES = 6;
/** How sure the counts are: see `certainty`. */
const CERTAINTIES = 8;
/** What the other drafter says: nothing, the same, something else. */
const RELATIONS = 3;
/** Cells a drafter. */
export const EVIDENCES = MATCHES * CERTAINTIES * RELATIONS;

/** The cell of what drafter number `drafter` found; `other`: what the other one found, if anything. */
export function evidence(drafter: number, found: Continuation, other: Continuation | undefined): Evidence {
  const match = Math.min(found.match, MATCHES) - 1;
  const relation = other === undefined ? 0 : other.token === found.token ? 1 : 2;
  return drafter * EVIDENCES + (relation * MATCHES + match) * CERTAINTIES + certainty(found);
}

/** Shares below which a draft model's probability of its own draft counts as one kind; and what to expect of each. */
const CONFIDENCES = [0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97];
const CONFIDENT = [0.15, 0.3, 0.4, 0.55, 0.7, 0.82, 0.9, 0.95];

/**
 * The cell of a draft model's draft number `index` of a step, to which the model gave the probability `confidence`;
 * `agrees`: whether the other drafters say the same, undefined when they say nothing.
 */
export function modelEvidence(
  drafter: number,
  index: number,
  confidence: number,
  agrees: boolean | undefined,
): Evidence {
  const at = Math.min(index, MATCHES - 1);
  const relation = agrees === undefined ? 0 : agrees ? 1 : 2;
  const certain = CONFIDENCES.findIndex((share) => confidence < share);
  const last = CERTAINTIES - 1;
  return drafter * EVIDENCES + (relation * MATCHES + at) * CERTAINTIES + (certain < 0 ? last : certain);
}

/** What kind of drafts a drafter makes: a tenant's own text, known answers, a draft model's. */
export type DraftKind = "text" | "known" | "model";

/** What to expect of a cell before anything is known; `cell` within its drafter. */
export function guessOf(kind: DraftKind, cell: number): number {
  if (kind === "model") return CONFIDENT[cell % CERTAINTIES]!;
  return firstGuess(cell, kind === "known" ? FIRST_KNOWN : FIRST_SURVIVAL);
}

/** 0 to 3: followed by other tokens as well, ever more seldom; 4 to 7: by this one alone, ever more often. */
function certainty({ count, total }: Continuation): number {
  if (count >= total) return count >= 8 ? 7 : count >= 4 ? 6 : count >= 2 ? 5 : 4;
  const share = count / total;
  return share >= 0.75 ? 3 : share >= 0.5 ? 2 : share >= 0.25 ? 1 : 0;
}

/**
 * How often drafts hold, by evidence: learnt by scoring what each drafter would have said before every token drawn,
 * whether that was drafted or not. So nothing has to be tried to be known: a drafter that is not used, or a lane that
 * does not speculate at present, goes on being measured. Counts fade, and are mixed with a prior.
 */
export class Survival {
  readonly #hits: Float64Array;
  readonly #tries: Float64Array;
  /** Not yet taken by `takeNews`. */
  readonly #newHits: Float32Array;
  readonly #newTries: Float32Array;
  readonly #prior: Float64Array;

  /**
   * `memory`: tries of a cell after which old ones weigh 1/e. `weight`: tries that the prior counts as. `guess`: what to
   * expect of a drafter's cell at first.
   */
  constructor(
    readonly drafters: number,
    readonly memory: number,
    readonly weight: number,
    guess: (drafter: number, cell: number) => number = (_, cell) => guessOf("text", cell),
  ) {
    const cells = drafters * EVIDENCES;
    this.#hits = new Float64Array(cells);
    this.#tries = new Float64Array(cells);
    this.#newHits = new Float32Array(cells);
    this.#newTries = new Float32Array(cells);
    this.#prior = Float64Array.from({ length: cells }, (_, cell) =>
      guess(Math.floor(cell / EVIDENCES), cell % EVIDENCES),
    );
  }

  /** Probability that a draft with this evidence holds, given that those before it did. */
  probability(cell: Evidence): number {
    return (this.#hits[cell]! + this.weight * this.#prior[cell]!) / (this.#tries[cell]! + this.weight);
  }

  observe(cell: Evidence, held: boolean): void {
    const keep = 1 - 1 / this.memory;
    this.#hits[cell] = this.#hits[cell]! * keep + (held ? 1 : 0);
    this.#tries[cell] = this.#tries[cell]! * keep + 1;
    this.#newTries[cell]!++;
    if (held) this.#newHits[cell]!++;
  }

  /** What was observed since the last call: tries, then hits, a cell each. */
  takeNews(): Float32Array {
    const cells = this.#newTries.length;
    const news = new Float32Array(2 * cells);
    news.set(this.#newTries);
    news.set(this.#newHits, cells);
    this.#newTries.fill(0);
    this.#newHits.fill(0);
    return news;
  }

  /** Counts what another learnt: as `takeNews` gave it. An array of another size is ignored. */
  learn(news: ArrayLike<number>): void {
    const cells = this.#tries.length;
    if (news.length !== 2 * cells) return;
    for (let cell = 0; cell < cells; cell++) {
      const tries = news[cell]!;
      const keep = (1 - 1 / this.memory) ** tries;
      this.#tries[cell] = this.#tries[cell]! * keep + tries;
      this.#hits[cell] = this.#hits[cell]! * keep + news[cells + cell]!;
    }
  }

  /** All probabilities, for a message. */
  toArray(): Float32Array {
    return Float32Array.from(this.#tries, (_, cell) => this.probability(cell));
  }

  /** Adopts what another found as the prior: as `toArray` gave it. An array of another size is ignored. */
  adopt(probabilities: ArrayLike<number>): void {
    if (probabilities.length !== this.#prior.length) return;
    for (let cell = 0; cell < this.#prior.length; cell++) {
      this.#prior[cell] = Math.min(1, Math.max(0, probabilities[cell]!));
    }
  }
}

function firstGuess(cell: number, table: typeof FIRST_SURVIVAL): number {
  const suffix = Math.floor(cell / CERTAINTIES);
  const rows = table[Math.floor(suffix / MATCHES)]!;
  return rows[Math.min(suffix % MATCHES, rows.length - 1)]![cell % CERTAINTIES]!;
}

/**
 * What sets one request, or all of a workload, apart from the average: drafts of each drafter held this much more or less
 * often than their evidence promised. A ratio of sums that fade, mixed with some expected hits at the prior's ratio.
 */
export class Earnings {
  readonly #held: Float64Array;
  readonly #promised: Float64Array;

  /**
   * `memory`: tokens after which old ones weigh 1/e. `weight`: expected hits that are taken to hold as often as those of
   * `prior`, and as often as promised where there is none or they hold more often: promises multiply along the drafts, so
   * that too high ones cost more than too low ones.
   */
  constructor(
    drafters: number,
    readonly memory: number,
    readonly weight: number,
    readonly prior?: Earnings,
  ) {
    this.#held = new Float64Array(drafters);
    this.#promised = new Float64Array(drafters);
  }

  observe(drafter: number, promised: number, held: boolean): void {
    const keep = 1 - 1 / this.memory;
    this.#held[drafter] = this.#held[drafter]! * keep + (held ? 1 : 0);
    this.#promised[drafter] = this.#promised[drafter]! * keep + promised;
  }

  /** How many times as often as promised its drafts hold. */
  ratio(drafter: number): number {
    const expected = this.weight * Math.min(1, this.prior?.ratio(drafter) ?? 1);
    return (this.#held[drafter]! + expected) / (this.#promised[drafter]! + this.weight);
  }

  /** A probability as this request keeps it. */
  adjust(drafter: number, probability: number): number {
    return Math.min(MOST_CERTAIN, probability * this.ratio(drafter));
  }
}

const MOST_CERTAIN = 0.99;
