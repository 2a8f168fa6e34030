import type { DraftEngine, StepResult } from "../engine/engine.js";
import type { DraftPlan } from "../policy/depth.js";
import { type ModelPlan, type ModelRow, planModel, TrialBudget } from "../policy/draft-model.js";
import { StepCost, type StepCostPrior } from "../policy/step-cost.js";
import type { Context } from "../runtime/actor.js";
import type { DecodeRow } from "./decode-row.js";
import type { DraftSequence } from "./draft-sequence.js";
import { codeOf } from "./endings.js";
import type { AppMessage } from "./messages.js";

/** Least gain for which the model is used, as a ratio: predictions are no better. */
const LEAST_GAIN = 1.02;
/** Of the lane's time that goes into trying a model that does not pay. */
const TRIAL_SHARE = 0.005;
/** Weighing it takes time too: after so many steps in which it did not pay only one in `SELDOM` does. */
const PATIENCE = 16;
const SELDOM = 8;
/** Milliseconds of it that can be saved up: a chunk of a prompt in a model of some size, and a few steps. */
const MOST_TRIAL_MS = 200;
/** Drafts of a trial: two tell what the first and what later ones are worth. */
const TRIAL_DEPTH = 2;
/**
 * Text that is caught up with before a step: so many tokens at least, more while that takes no longer than this share of
 * the step, for all its rows wait.
 */
const CATCH_UP = 32;
const CATCH_UP_SHARE = 0.25;
/** A row that is to be caught up with must win it back in so many tokens, or in those it has left. */
const HORIZON = 64;
/** Steps without the model after its pool ran short. */
const REST_STEPS = 64;

/** A row that it could draft for. */
interface Candidate extends ModelRow {
  readonly of: DecodeRow;
  readonly sequence: DraftSequence;
  readonly left: number;
}

/**
 * The draft model of a decode lane. Before a step it drafts for the rows for which that is expected to pay, by what its
 * drafts have been worth and what its steps take; one that does not pay is tried now and then within a budget. Its steps run
 * on the lane's thread while the lane has none of its own under way, so that both share the compute threads in turn.
 */
export class ModelDrafts {
  readonly cost: StepCost;
  /** What it took for the step in hand, in milliseconds. */
  spentMs = 0;
  readonly #budget = new TrialBudget(TRIAL_SHARE, MOST_TRIAL_MS);
  #resting = 0;
  /** Steps since it last paid. */
  #vain = 0;
  #now: () => number = () => 0;

  constructor(
    readonly engine: DraftEngine,
    prior: StepCostPrior,
    readonly maxDepth: number,
  ) {
    this.cost = new StepCost(prior);
  }

  /**
   * Drafts for a step that is planned as `plan` without it; true when rows have other drafts now. `room`: new tokens of
   * the step at most; `depth`: drafts whatever they earn, for comparisons.
   */
  draft(
    rows: readonly DecodeRow[],
    plan: DraftPlan,
    room: number,
    predict: (tokens: number) => number,
    least: number,
    depth: number | undefined,
    ctx: Context<AppMessage>,
  ): boolean {
    this.spentMs = 0;
    this.#now = () => ctx.now();
    if (this.#resting > 0) {
      this.#resting--;
      return false;
    }
    if (depth === undefined) {
      this.#budget.pass(plan.predictedMs);
      if (++this.#vain > PATIENCE && this.#vain % SELDOM !== 0) return false;
    }
    const candidates = this.#candidates(rows, plan);
    if (candidates.length === 0) return false;
    try {
      if (depth !== undefined) return this.#run(candidates, depth, least, room);
      return this.#earn(candidates, plan, room, predict, least);
    } catch (error) {
      // Without it everything goes on as it would.
      ctx.log("warn", "the draft model rests", { code: codeOf(error), steps: REST_STEPS });
      this.#resting = REST_STEPS;
      for (const { sequence } of candidates) sequence.close();
      return false;
    }
  }

  #candidates(rows: readonly DecodeRow[], plan: DraftPlan): Candidate[] {
    return rows.flatMap((of, row) => {
      const { drafting, sequence } = of;
      if (!drafting || !sequence || of.prompting) return [];
      const most = Math.min(of.mostDrafts, this.maxDepth);
      if (most < 1 || sequence.lag === Number.POSITIVE_INFINITY) return [];
      const drafts = plan.depths[row]!;
      let expected = 0;
      for (let k = 0; k < drafts; k++) expected += drafting.survivals[k]!;
      const left = of.mostDrafts + 1;
      return [{ of, sequence, row, most, left, drafts, expected, promise: drafting.modelPromise }];
    });
  }

  /** Uses the model where that pays, and tries it where it might. */
  #earn(
    candidates: readonly Candidate[],
    plan: DraftPlan,
    room: number,
    predict: (tokens: number) => number,
    least: number,
  ): boolean {
    const without = { ...plan, rows: plan.depths.length };
    const better = (some: readonly Candidate[]) =>
      planModel(some, without, without.rows + room, predict, (count) => this.#predict(count, count));
    const wish = better(candidates);
    if (wish.gain < LEAST_GAIN) return this.#try(candidates, without, room, predict, least);
    this.#vain = 0;
    const ready: Candidate[] = [];
    const late: Candidate[] = [];
    for (const i of wish.chosen) {
      const one = candidates[i]!;
      (this.#isReady(one) ? ready : late).push(one);
    }
    this.#catchUp(
      late.find((one) => this.#winsBack(one, wish, without)),
      CATCH_UP_SHARE * plan.predictedMs,
    );
    if (ready.length === 0) return false;
    const now = better(ready);
    if (now.gain < LEAST_GAIN) return false;
    return this.#run(
      now.chosen.map((i) => ready[i]!),
      now.depth,
      least,
      room,
    );
  }

  #try(
    candidates: readonly Candidate[],
    without: { readonly rows: number; readonly drafts: number; readonly predictedMs: number },
    room: number,
    predict: (tokens: number) => number,
    least: number,
  ): boolean {
    const nearest = candidates.reduce((a, b) => (b.sequence.lag < a.sequence.lag ? b : a));
    const chunk = Math.min(CATCH_UP, nearest.sequence.lag);
    const verifyMs = predict(without.rows + without.drafts + TRIAL_DEPTH) - without.predictedMs;
    const ms = this.#predict(1, chunk) + this.#predict(1, 1) + Math.max(0, verifyMs);
    if (!this.#budget.allows(ms)) return false;
    const ready = this.#isReady(nearest);
    const drafted = ready && this.#run([nearest], TRIAL_DEPTH, least, Math.min(room, TRIAL_DEPTH));
    if (!ready) this.#catchUp(nearest, 0);
    // What it took, where that was more than expected: a model that is seldom run finds the caches cold.
    this.#budget.spend(Math.max(ms, this.spentMs + Math.max(0, verifyMs)));
    return drafted;
  }

  /** True when what it lacks can be computed along with its first guess. */
  #isReady({ sequence }: Candidate): boolean {
    sequence.follow();
    return sequence.lag <= this.maxDepth + 1;
  }

  /** Whether catching up with a row costs less than it will win before it ends. */
  #winsBack(
    { sequence, left }: Candidate,
    wish: ModelPlan,
    without: { readonly predictedMs: number },
  ): boolean {
    const wonMs = without.predictedMs * (1 - 1 / wish.gain) * (Math.min(HORIZON, left) / wish.chosen.length);
    return this.#predict(1, sequence.lag) < wonMs;
  }

  #catchUp(one: Candidate | undefined, mostMs: number): void {
    if (!one) return;
    const most = Math.min(one.sequence.lag - 1, this.engine.limits.maxBatchTokens);
    let chunk = CATCH_UP;
    while (chunk < most && this.#predict(1, 2 * chunk) <= mostMs) chunk *= 2;
    const tokens = one.sequence.next(Math.min(chunk, most));
    this.#step([one], [tokens], false);
  }

  /** Guesses for `chosen`, one step a guess, each row as far as its guesses survive. */
  #run(chosen: readonly Candidate[], depth: number, least: number, room: number): boolean {
    let spare = this.engine.limits.maxBatchTokens;
    let guesses = room;
    let live = chosen.filter(({ sequence }, i) => {
      sequence.follow();
      spare -= sequence.lag;
      return spare >= 0 && i < this.engine.limits.maxRows;
    });
    const any = live.length > 0;
    for (let k = 0; k < depth && live.length > 0; k++) {
      live = live.slice(0, Math.max(0, guesses));
      if (live.length === 0) break;
      guesses -= live.length;
      const result = this.#step(
        live,
        live.map(({ sequence }) => sequence.next(Number.POSITIVE_INFINITY)),
        true,
      );
      live = live.filter(({ of, sequence, most }, i) => {
        const { tokens, logprobs } = result.rows[i]!;
        sequence.guess(tokens[0]!);
        return of.replaceDraft(k, tokens[0]!, Math.exp(logprobs[0]!)) >= least && k + 1 < most;
      });
    }
    return any;
  }

  #step(rows: readonly Candidate[], tokens: readonly Uint32Array[], sample: boolean): StepResult {
    const batch = rows.map(({ sequence }, i) => ({
      sequence: sequence.handle,
      tokens: tokens[i]!,
      drafts: 0,
      sample,
    }));
    let count = 0;
    let contextTokens = 0;
    rows.forEach(({ sequence }, i) => {
      count += tokens[i]!.length;
      contextTokens += sequence.length;
    });
    const startedAt = this.#now();
    const result = this.engine.submit(batch).collect();
    // As the lane sees it: steps of a small model are so short that calling them counts.
    const ms = this.#now() - startedAt;
    rows.forEach(({ sequence }, i) => {
      sequence.fed(tokens[i]!.length);
    });
    this.cost.observe({ rows: rows.length, tokens: count, contextTokens }, ms);
    this.spentMs += ms;
    return result;
  }

  #predict(rows: number, tokens: number): number {
    return this.cost.predict({ rows, tokens, contextTokens: 0 });
  }
}
