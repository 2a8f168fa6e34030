import type { LaneEngine, StepResult } from "../engine/engine.js";
import { knownAnswers } from "../policy/known-answers.js";
import { chooseVictim } from "../policy/preemption.js";
import type { StepCostPrior } from "../policy/step-cost.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import type { DecodeRow } from "./decode-row.js";
import { composeStep, plainShape } from "./decode-step.js";
import { codeOf, finishOf, tellCancelled, tellFailed, tellLost } from "./endings.js";
import { Holding } from "./holding.js";
import type { LaneLoad, LaneMeter } from "./lane-meter.js";
import { LaneSpeculation, type SpeculationOptions } from "./lane-speculation.js";
import { type AppMessage, CANCEL, DECODE, FINISH, LOST, type MessageNamed } from "./messages.js";
import { ModelDrafts } from "./model-drafts.js";
import type { Outbox } from "./outbox.js";
import { TokenBatch } from "./token-batch.js";

export interface DecodingOptions {
  readonly pair: number;
  readonly maxRows: number;
  readonly maxBatchTokens: number;
  readonly speculation: SpeculationOptions;
  /** What the model answered elsewhere, see `answersTable`. */
  readonly knownAnswers?: SharedArrayBuffer | undefined;
  /** A row that has waited so long for credit fails with `slow_reader`, in milliseconds. */
  readonly stallMs: number;
  /** How often waiting rows are looked at while no step runs, in milliseconds. */
  readonly watchMs: number;
  /** What its steps are assumed to take at first. */
  readonly stepCost: StepCostPrior;
  /** The same of a draft model's; absent: as its own. */
  readonly draftCost?: StepCostPrior | undefined;
}

/** Whom it speaks to. */
export interface DecodingAudience {
  readonly gateway: ActorRef;
  readonly tuner: ActorRef;
  readonly scheduler: Outbox;
}

type Ctx = Context<AppMessage>;

/** Tokens beyond its reservation that a row announces at a time: a few blocks, so that it does so rarely. */
const GROWTH_TOKENS = 64;

/**
 * Draws the output of many sequences in a lane, one batched step after another, each row verifying as many drafts as pay
 * (lane-speculation.ts). A row without credit is parked: it keeps its KV and joins no step. What a step drew goes to the
 * gateway in one message. Rows that come or go while a step computes take effect at the next one.
 */
export class Decoding {
  /** In order of arrival: the last is the youngest. */
  readonly rows: Holding<DecodeRow>;
  /** Undefined where nothing is ever drafted. */
  readonly speculation: LaneSpeculation | undefined;
  /** Computing time of the last step, in milliseconds, if the next one follows at once. */
  #continuing: number | undefined;
  /** False for one step after the pool ran short: drafts need blocks too. */
  #draftAllowed = true;
  /** Where the next step starts among the rows, so that more rows than fit take turns. */
  #turn = 0;
  /** Rows of the next step at most: 1 after a step was refused, to find the row at fault. */
  #rowLimit: number;
  #watching = false;
  #audience!: DecodingAudience;
  /** Learns from the step that has ended, once the next one runs. */
  #ended: (() => void) | undefined;

  /** `meter` counts its steps and learns what they cost. */
  constructor(
    readonly options: DecodingOptions,
    readonly engine: LaneEngine,
    readonly meter: LaneMeter,
  ) {
    this.rows = new Holding(
      (row) => {
        row.close();
        engine.release(row.handle);
      },
      () => meter.touch(),
    );
    const { speculation } = options;
    if (speculation.maxDepth > 0) {
      const { maxDepth } = speculation;
      const model =
        engine.draft && new ModelDrafts(engine.draft, options.draftCost ?? options.stepCost, maxDepth);
      this.speculation = new LaneSpeculation(
        speculation,
        meter.cost,
        model,
        options.knownAnswers && knownAnswers(options.knownAnswers),
      );
    }
    this.#rowLimit = options.maxRows;
  }

  started(audience: DecodingAudience): void {
    this.#audience = audience;
  }

  /** Recent mean of drafts a row and step. */
  get depth(): number {
    return this.speculation?.depth ?? 0;
  }

  /** Takes a reader's grant; false when the row is not here. */
  credit({ request, attempt, upTo }: MessageNamed<"credit">): boolean {
    const row = this.rows.get(request);
    if (row?.journey.attempt !== attempt) return false;
    row.allow(upTo);
    return true;
  }

  /** Takes a row back; false when it is not here. */
  cancel(message: MessageNamed<"cancel">, ctx: Ctx): boolean {
    const row = this.rows.cancelled(message);
    if (!row) return false;
    if (message.reason === CANCEL.preempted) this.meter.preemptions++;
    this.rows.leave(row, () => tellCancelled(ctx, this.#audience.gateway, row.journey, message.reason));
    return true;
  }

  /** What all lanes know of drafts. */
  survival({ probabilities }: MessageNamed<"survival">): void {
    this.speculation?.drafts.survival.adopt(probabilities);
  }

  /** It is time to look at waiting rows again. */
  tick(): void {
    this.#watching = false;
  }

  /** Learns from the step that has ended; to be called while the next one computes. */
  learn(): void {
    this.#ended?.();
    this.#ended = undefined;
  }

  /** Begins a step of the rows that may go on; false when there is none. No step may be running. */
  startStep(ctx: Ctx): boolean {
    const continuing = this.#continuing;
    this.#continuing = undefined;
    if (this.rows.size === 0) return false;
    const startedAt = ctx.now();
    const rows = this.#gather(ctx);
    if (rows.length === 0) {
      if (this.rows.size > 0) this.#watch(ctx);
      return false;
    }
    this.speculation?.begins(startedAt, continuing);
    let spare = this.#budget - rows.length;
    for (const row of rows) spare -= row.takeChunk(spare);
    const plain = plainShape(rows, this.meter.shared);
    const most = this.#draftAllowed ? spare : 0;
    const { batch, shape } = composeStep(rows, plain, this.speculation?.draft(rows, plain, most, ctx));
    this.rows.beginStep(rows, startedAt);
    ctx.work(
      () => this.engine.submit(batch),
      (result: StepResult) => {
        // A step belongs to all its rows; only a lone one can be named.
        ctx.trace("decode", startedAt, rows.length === 1 ? rows[0]!.journey.request : 0, shape.tokens);
        const draftMs = this.speculation?.modelMs ?? 0;
        this.#ended = () => this.meter.step(result, shape, rows.length, draftMs);
        this.#continuing = result.computeMs;
        this.#finishStep(result, ctx);
      },
      (error) => this.#failStep(error, ctx),
    );
    return true;
  }

  /** The rows of the next step: all that may go on, in turns when there are more than fit. */
  #gather(ctx: Ctx): DecodeRow[] {
    const all = [...this.rows.values()];
    // Held rows keep their KV.
    const rows = this.rows.holdsOffline ? all.filter((row) => !row.offline) : all;
    const step: DecodeRow[] = [];
    const most = Math.min(this.#rowLimit, this.engine.limits.maxRows, this.#budget);
    if (this.#turn >= rows.length) this.#turn = 0;
    let seen = 0;
    for (; seen < rows.length && step.length < most; seen++) {
      const row = rows[(this.#turn + seen) % rows.length] as DecodeRow;
      if (this.#goesOn(row, ctx)) step.push(row);
    }
    if (seen < rows.length) this.#turn = (this.#turn + seen) % rows.length;
    return step;
  }

  /** New tokens of a step, at most. */
  get #budget(): number {
    return Math.min(this.options.maxBatchTokens, this.engine.limits.maxBatchTokens);
  }

  /** False for a row that joins no step now; one that has waited too long, or is past its deadline, ends here. */
  #goesOn(row: DecodeRow, ctx: Ctx): boolean {
    const now = ctx.now();
    const { journey } = row;
    if (journey.deadline > 0 && now >= journey.deadline) {
      this.rows.leave(row, () => tellCancelled(ctx, this.#audience.gateway, journey, CANCEL.deadline));
      return false;
    }
    if (row.credit > 0 || row.prompting) return true;
    if (row.parkedSince === undefined) {
      row.parkedSince = now;
      const { request, attempt } = journey;
      const { pair } = this.options;
      ctx.tell(this.#audience.gateway, { type: "starved", request, attempt, pair, upTo: row.creditUpTo });
    } else if (now - row.parkedSince >= this.options.stallMs) {
      const reason = `The reader took nothing for ${this.options.stallMs} ms: read faster, or ask for fewer tokens.`;
      this.rows.leave(row, () => tellFailed(ctx, this.#audience.gateway, journey, "slow_reader", reason));
    }
    return false;
  }

  /** Looks at waiting rows again later, when no step will. */
  #watch(ctx: Ctx): void {
    if (this.#watching) return;
    this.#watching = true;
    ctx.after(this.options.watchMs, { type: "tick" });
  }

  #finishStep(result: StepResult, ctx: Ctx): void {
    const step = this.rows.endStep();
    this.#rowLimit = this.options.maxRows;
    this.#draftAllowed = true;
    const batch = new TokenBatch();
    step.forEach((row, i) => {
      if (row.leaving) return;
      const drawn = result.rows[i]!;
      const { carried } = row;
      const index = row.produced - (carried ? carried.ids.length : 0);
      if (row.drafting && row.chunk === 0) this.speculation?.drew(row.drafting, row.drafts, drawn);
      row.accept(drawn.tokens);
      if (drawn.tokens.length === 0) return;
      if (row.length > row.growAt) this.#tellGrowth(row, ctx);
      const finish = finishOf(drawn, row.produced, row.journey);
      if (finish !== FINISH.none) this.rows.leave(row, () => {});
      batch.add(row.journey, index, carried, drawn, finish, row.drafts, row.journey.cachedTokens);
    });
    if (!batch.empty) ctx.tell(this.#audience.gateway, batch.message(this.options.pair, DECODE));
    this.rows.staying(step);
    this.speculation?.ended(ctx, this.#audience.tuner, this.options.pair);
  }

  #failStep(error: Error, ctx: Ctx): void {
    const step = this.rows.endStep();
    const drafted = step.some((row) => row.drafts > 0);
    const staying = this.rows.staying(step);
    if (codeOf(error) === "kv_exhausted") {
      // Drafts are the first to give way.
      if (drafted) this.#draftAllowed = false;
      else this.#preempt(ctx);
      return;
    }
    if (staying.length > 1) {
      // One of them is at fault: the next steps take them one by one, so that the others go on.
      this.#rowLimit = 1;
      return;
    }
    for (const row of staying) {
      ctx.log("error", "decode failed", { request: row.journey.request, reason: error.message });
      this.rows.leave(row, () =>
        tellFailed(ctx, this.#audience.gateway, row.journey, codeOf(error), error.message),
      );
    }
  }

  /** It has more tokens than KV was reserved for: whoever reserves is to know before somebody else needs it. */
  #tellGrowth(row: DecodeRow, ctx: Ctx): void {
    row.growAt = row.length + GROWTH_TOKENS;
    const { request, attempt, generation } = row.journey;
    this.#audience.scheduler.send(ctx, { type: "grew", request, attempt, generation, tokens: row.growAt });
  }

  #preempt(ctx: Ctx): void {
    const victim = chooseVictim([...this.rows.values()]);
    if (!victim) return;
    this.meter.preemptions++;
    ctx.log("info", "out of KV blocks: a row gives way", { request: victim.journey.request });
    this.rows.leave(victim, () => tellLost(ctx, this.#audience.gateway, victim.journey, LOST.preempted));
  }

  /** What it holds at `now`, for a report. */
  load(now: number): LaneLoad {
    let contextTokens = 0;
    let queuedTokens = 0;
    for (const row of this.rows.values()) {
      contextTokens += row.length;
      queuedTokens += row.remaining;
    }
    const { inStep, size } = this.rows;
    const stepForMs = this.rows.stepForMs(now);
    return { rows: inStep, queued: Math.max(0, size - inStep), queuedTokens, contextTokens, stepForMs };
  }
}
