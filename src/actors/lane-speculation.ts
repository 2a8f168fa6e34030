import type { RowResult } from "../engine/engine.js";
import { AcceptanceDepth } from "../policy/acceptance-depth.js";
import { type DraftPlan, planDrafts, planGiven, type RowSurvival } from "../policy/depth.js";
import { DRAFTERS, type DraftingLimits, LaneDrafts, type RowDrafts } from "../policy/drafting.js";
import type { StepCost, StepShape } from "../policy/step-cost.js";
import type { Successors } from "../policy/successors.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import type { DecodeRow } from "./decode-row.js";
import { traceDrafts } from "./draft-trace.js";
import type { AppMessage } from "./messages.js";
import type { ModelDrafts } from "./model-drafts.js";

export interface SpeculationOptions extends DraftingLimits {
  /** How a step's drafts are chosen, unless there are `fixedDepth`. */
  readonly policy: "goodput" | "acceptance";
  /** Drafts a row and step, whatever they earn: for comparisons. Absent: what `policy` chooses. */
  readonly fixedDepth?: number | undefined;
  /** Steps between two reports to the tuner: what a lane learnt outlives it, and reaches others, that late. */
  readonly newsSteps: number;
}

/** What a lane has drafted and drawn since it began, for metrics. */
export interface SpeculationCounts {
  /** Drafts verified and drafts that held, by drafter. */
  readonly drafted: Float64Array;
  readonly held: Float64Array;
  /** Tokens that steps were expected to draw, and drew. */
  expectedTokens: number;
  drawnTokens: number;
}

/** Weight of the newest step in the running means: about the last twenty steps count. */
const NEWEST = 0.05;
/** Tokens over which the price of a draft is averaged: the widest panel, so that a leap of the step's time counts once. */
const PRICED = 16;
/** Drafts are looked for down to this share of the price: some tokens are cheaper than the average one. */
const BELOW_PRICE = 0.5;

/**
 * Survival that a draft needs to be worth looking for: what a further token costs, in tokens that the step would draw
 * in that time anyway. With many rows that is much, and looking for what can't pay would itself slow the step.
 */
function priceOf(rows: number, most: number, predict: (tokens: number) => number): number {
  const more = Math.min(PRICED, most);
  if (more <= 0) return 1;
  const plainMs = predict(rows);
  const price = ((predict(rows + more) - plainMs) / more) * (rows / plainMs);
  return Math.min(1, Math.max(0, BELOW_PRICE * price));
}

/** Least gain of drafts over none, as a share: about what making them takes beside the step, and what predictions are off. */
const MARGIN = 0.01;
/**
 * Drafts that are to gain less than `CONTESTED`, as a share, are left out once in `PROBE_STEPS` steps. Whether they pay is
 * a comparison with the plain step, and a lane that never makes one can't know that it has become cheaper, or always was.
 * It costs a fifth in one of 32 steps, well under 1%.
 */
const PROBE_STEPS = 32;
const CONTESTED = 0.2;

/**
 * After so many steps without a draft some are verified that would pay if a draft cost no more than `CHEAPEST` of the plain
 * step. Steps whose size is never seen keep the price once believed, and times taken on a busy machine, which are kept
 * between starts, can be ten times too high. It costs half a step in one of 128 at worst.
 */
const TRIAL_STEPS = 128;
/** Less than a draft has cost on any processor measured: 6 to 12% of the step of one row. */
const CHEAPEST = 0.05;

/** Drafts that are taken to hold as promised, and what a step takes away from older ones. */
const PAR = 5;
const FADING = 0.01;
/** A pause longer than this between two steps is no work of the lane's, in milliseconds. */
const MOST_OVERHEAD_MS = 5;

/**
 * A decode lane's part of SpecuStream: plans each step's drafts by what they are worth and what the step will take,
 * and counts what came of it. What it learns goes to the tuner now and then.
 */
export class LaneSpeculation {
  readonly drafts: LaneDrafts;
  readonly counts: SpeculationCounts = {
    drafted: new Float64Array(DRAFTERS.length),
    held: new Float64Array(DRAFTERS.length),
    expectedTokens: 0,
    drawnTokens: 0,
  };
  /** Recent mean of drafts a row and step. */
  depth = 0;
  /** Recent mean of what a step takes beside its computation, in milliseconds: it is lost at every depth. */
  overheadMs = 0;
  /** Drafts that held lately, and that were promised to: those chosen are those promised too much. */
  #held = PAR;
  #promised = PAR;
  readonly #acceptance: AcceptanceDepth;
  #plan: DraftPlan | undefined;
  #steps = 0;
  #startedAt = Number.NEGATIVE_INFINITY;
  /** Number of the last plain step, by the binary logarithm of its rows. */
  readonly #plainSteps: number[] = [];
  /** Number of the last step with drafts, likewise. */
  readonly #draftedSteps: number[] = [];

  constructor(
    readonly options: SpeculationOptions,
    readonly cost: StepCost,
    /** Drafts for rows where that pays, if there is a draft model. */
    readonly model?: ModelDrafts | undefined,
    /** What the model answered elsewhere. */
    known?: Successors | undefined,
  ) {
    this.drafts = new LaneDrafts(options, known);
    this.#acceptance = new AcceptanceDepth(options.maxDepth);
  }

  /** Has the rows make drafts, and decides how many of each are verified; `most` in all. */
  draft(rows: readonly DecodeRow[], plain: StepShape, most: number, ctx: Context<AppMessage>): Uint8Array {
    const startedAt = ctx.now();
    const { leastSurvival } = this.options;
    const shape = { ...plain };
    const predict = (tokens: number) => {
      shape.tokens = tokens;
      return this.overheadMs + this.cost.predict(shape);
    };
    const given = this.#givenDepths(rows);
    const size = Math.ceil(Math.log2(rows.length));
    const trial = this.#steps - (this.#draftedSteps[size] ?? 0) >= TRIAL_STEPS;
    const price = () => (trial ? BELOW_PRICE * CHEAPEST : priceOf(rows.length, most, predict));
    const least = given ? leastSurvival : Math.max(leastSurvival, price());
    const outlooks = rows.map((row) => row.draft(least));
    let plan = given
      ? planGiven(outlooks, given, most, predict)
      : this.#contest(outlooks, most, predict, size);
    if (!given && trial && plan.drafts === 0) plan = this.#try(outlooks, most, predict);
    if (this.model?.draft(rows, plan, most, predict, least, given?.[0], ctx)) {
      const others = rows.map((row) => row.outlook);
      plan = given ? planGiven(others, given, most, predict) : planDrafts(others, most, predict, this.#trust);
      plan = { ...plan, predictedMs: plan.predictedMs + this.model.spentMs };
    }
    if (plan.drafts > 0) this.#draftedSteps[size] = this.#steps;
    traceDrafts(ctx, startedAt, rows, plan);
    this.#plan = plan;
    return plan.depths;
  }

  /** What a draft model took for the step in hand, in milliseconds. */
  get modelMs(): number {
    return this.model?.spentMs ?? 0;
  }

  /** How far drafts lately kept what was promised of them. */
  get #trust(): number {
    return this.#held / this.#promised;
  }

  /** Depths that nothing else decides; undefined where the goodput rule does. */
  #givenDepths(rows: readonly DecodeRow[]): number[] | undefined {
    const { fixedDepth, policy } = this.options;
    if (fixedDepth !== undefined) return rows.map(() => fixedDepth);
    if (policy === "goodput") return undefined;
    return rows.map(({ drafting }) => (drafting ? this.#acceptance.of(drafting) : 0));
  }

  /** As many drafts as pay, or none where that has not been seen for long and is nearly as good. */
  #contest(
    rows: readonly RowSurvival[],
    most: number,
    predict: (tokens: number) => number,
    size: number,
  ): DraftPlan {
    const plan = planDrafts(rows, most, predict, this.#trust, MARGIN);
    const since = this.#steps - (this.#plainSteps[size] ?? Number.NEGATIVE_INFINITY);
    const gain = plan.expectedTokens / plan.predictedMs / plan.plainRate - 1;
    if (plan.drafts > 0 && (since < PROBE_STEPS || gain >= CONTESTED)) return plan;
    this.#plainSteps[size] = this.#steps;
    return plan.drafts === 0 ? plan : planGiven(rows, new Uint8Array(rows.length), 0, predict);
  }

  /** The drafts that would pay if they were as cheap as can be; how cheap they are is then known. */
  #try(rows: readonly RowSurvival[], most: number, predict: (tokens: number) => number): DraftPlan {
    const plainMs = predict(rows.length);
    const cheap = (tokens: number) => plainMs * (1 + CHEAPEST * (tokens - rows.length));
    const { depths } = planDrafts(rows, most, cheap, this.#trust, CONTESTED);
    return planGiven(rows, depths, most, predict);
  }

  /** A step begins; `computeMs`: computing time of the one before, if this one follows at once. */
  begins(now: number, computeMs: number | undefined): void {
    const overhead = now - this.#startedAt - this.modelMs - (computeMs ?? Number.NEGATIVE_INFINITY);
    if (overhead >= 0 && overhead < MOST_OVERHEAD_MS)
      this.overheadMs += (overhead - this.overheadMs) * NEWEST;
    this.#startedAt = now;
  }

  /** What the planned step drew for one of its rows. */
  drew(row: RowDrafts, depth: number, result: RowResult): void {
    this.#held += result.accepted;
    row.drew(result.tokens);
    this.#acceptance.observe(row, depth, result.accepted);
    for (let i = 0; i < depth; i++) {
      this.#promised += row.survivals[i]!;
      const maker = row.makers[i]!;
      this.counts.drafted[maker]!++;
      if (i < result.accepted) this.counts.held[maker]!++;
    }
    this.counts.drawnTokens += result.tokens.length;
  }

  /** The planned step has ended: reports to the tuner when it is time. */
  ended(ctx: Context<AppMessage>, tuner: ActorRef, pair: number): void {
    const plan = this.#plan;
    if (!plan) return;
    // Where nothing is drafted trust comes back by itself: distrust must not outlive its reasons.
    this.#held += (PAR - this.#held) * FADING;
    this.#promised += (PAR - this.#promised) * FADING;
    this.counts.expectedTokens += plan.expectedTokens;
    this.depth += (plan.drafts / plan.depths.length - this.depth) * NEWEST;
    if (++this.#steps % this.options.newsSteps !== 0) return;
    ctx.tell(tuner, { type: "learnt", pair, news: this.drafts.survival.takeNews() });
  }
}
