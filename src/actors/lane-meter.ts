import type { LaneEngine, StepResult } from "../engine/engine.js";
import { StepCost, type StepCostPrior, type StepShape } from "../policy/step-cost.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import type { LaneSpeculation } from "./lane-speculation.js";
import type { AppMessage } from "./messages.js";

/** Weight of the newest step in the running means: about the last ten steps count. */
const NEWEST = 0.1;

/** What a lane holds. */
export interface LaneLoad {
  readonly rows: number;
  readonly queued: number;
  readonly queuedTokens: number;
  readonly contextTokens: number;
  /** How long its step under way has taken so far, in milliseconds; below 0: none is. */
  readonly stepForMs: number;
}

/** What a prefill lane decodes itself: rows, tokens in their KV, and how many requests it ever took to keep. */
export interface KeptLoad {
  readonly rows: number;
  readonly contextTokens: number;
  readonly taken: number;
}

const NO_STEP: StepShape = { rows: 0, tokens: 0, contextTokens: 0 };
const NONE_KEPT: KeptLoad = { rows: 0, contextTokens: 0, taken: 0 };

/** Counts what a lane does, and reports it: to the router for its predictions, to the gateway for metrics. */
export class LaneMeter {
  taken = 0;
  /** Requests that ended here without being handed on. */
  ended = 0;
  preemptions = 0;
  /** Share of the last step that ran beside lanes of the other kind. */
  shared = 0;
  /** What steps of this lane cost. */
  readonly cost: StepCost;
  #steps = 0;
  #busyMs = 0;
  #stepMs = 0;
  #tokenMs = 0;
  #drawnPerRow = 0;
  #lateMs = 0;
  #last: StepShape = NO_STEP;
  #lastMs = 0;
  #dirty = true;
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly role: number,
    readonly pair: number,
    readonly engine: LaneEngine,
    readonly reportMs: number,
    prior: StepCostPrior,
  ) {
    this.cost = new StepCost(prior);
  }

  /** Something changed that the next report must tell. */
  touch(): void {
    this.#dirty = true;
  }

  /**
   * A step has ended; `each`: what `tokenMs` is a mean over, new tokens of prompts or rows that draw. `draftMs`: what a
   * draft model took before it.
   */
  step(result: StepResult, shape: StepShape, each: number, draftMs = 0): void {
    const ms = result.computeMs + result.waitMs + draftMs;
    this.shared = result.computeMs > 0 ? Math.min(1, result.sharedMs / result.computeMs) : 0;
    this.cost.observe({ ...shape, shared: this.shared }, result.computeMs);
    let drawn = 0;
    for (const row of result.rows) drawn += row.tokens.length;
    this.#last = shape;
    this.#lastMs = ms;
    const keep = this.#steps === 0 ? 0 : 1 - NEWEST;
    this.#steps++;
    this.#busyMs += result.computeMs + draftMs;
    this.#stepMs = this.#stepMs * keep + ms * (1 - keep);
    this.#tokenMs = this.#tokenMs * keep + (ms / Math.max(1, each)) * (1 - keep);
    this.#drawnPerRow = this.#drawnPerRow * keep + (drawn / Math.max(1, shape.rows)) * (1 - keep);
    this.#dirty = true;
  }

  /** A first token has come, so much later than it was predicted to, in milliseconds. */
  answered(lateMs: number): void {
    this.#lateMs += (lateMs - this.#lateMs) * NEWEST;
    this.#dirty = true;
  }

  /** True when there is news and it is time to report it; an idle lane's last state is told at once. */
  due(ctx: Context<AppMessage>, idle: boolean): boolean {
    return this.#dirty && (idle || ctx.now() - this.#reportedAt >= this.reportMs);
  }

  /** Sends a report. */
  report(
    ctx: Context<AppMessage>,
    to: readonly ActorRef[],
    now: LaneLoad,
    speculation?: LaneSpeculation,
    kept: KeptLoad = NONE_KEPT,
  ): void {
    this.#dirty = false;
    this.#reportedAt = ctx.now();
    const kv = this.engine.kv();
    const message: AppMessage = {
      type: "load",
      role: this.role,
      pair: this.pair,
      ...now,
      keptRows: kept.rows,
      keptContext: kept.contextTokens,
      keptTaken: kept.taken,
      draftDepth: speculation?.depth ?? 0,
      drafted: Float32Array.from(speculation?.counts.drafted ?? []),
      held: Float32Array.from(speculation?.counts.held ?? []),
      expectedTokens: speculation?.counts.expectedTokens ?? 0,
      drawnTokens: speculation?.counts.drawnTokens ?? 0,
      taken: this.taken,
      endedHere: this.ended,
      stepMs: this.#stepMs,
      tokenMs: this.#tokenMs,
      steps: this.#steps,
      busyMs: this.#busyMs,
      lastRows: this.#last.rows,
      lastTokens: this.#last.tokens,
      lastContext: this.#last.contextTokens,
      lastMs: this.#lastMs,
      lastShared: this.shared,
      drawnPerRow: this.#drawnPerRow,
      lateMs: Math.max(0, this.#lateMs),
      preemptions: this.preemptions,
      spareBlocks: kv.freeBlocks + kv.cachedBlocks,
      cost: this.cost.times.toArray(),
      costError: this.cost.error,
    };
    // Told once: whoever learns from it would learn it twice.
    this.#last = NO_STEP;
    this.#lastMs = 0;
    for (const ref of to) {
      // Somebody still believes what it was told before.
      if (!ctx.tell(ref, message)) this.#dirty = true;
    }
  }
}
