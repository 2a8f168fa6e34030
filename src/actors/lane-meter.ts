import type { LaneEngine, StepResult } from "../engine/engine.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

/** Weight of the newest step in the running means: about the last ten steps count. */
const NEWEST = 0.1;

/** Counts what a lane does, and reports it: to the router for its predictions, to the gateway for metrics. */
export class LaneMeter {
  taken = 0;
  /** Requests that ended here without being handed on. */
  ended = 0;
  preemptions = 0;
  #steps = 0;
  #busyMs = 0;
  #stepMs = 0;
  #tokenMs = 0;
  #dirty = true;
  #reportedAt = Number.NEGATIVE_INFINITY;

  constructor(
    readonly role: number,
    readonly pair: number,
    readonly engine: LaneEngine,
    readonly reportMs: number,
  ) {}

  /** Something changed that the next report must tell. */
  touch(): void {
    this.#dirty = true;
  }

  /** A step over `tokens` new tokens has ended. */
  step(result: StepResult, tokens: number): void {
    const ms = result.computeMs + result.waitMs;
    const keep = this.#steps === 0 ? 0 : 1 - NEWEST;
    this.#steps++;
    this.#busyMs += result.computeMs;
    this.#stepMs = this.#stepMs * keep + ms * (1 - keep);
    this.#tokenMs = this.#tokenMs * keep + (ms / Math.max(1, tokens)) * (1 - keep);
    this.#dirty = true;
  }

  /** Sends a report if there is news and it is time; an idle lane's last state is told at once. */
  report(
    ctx: Context<AppMessage>,
    to: readonly ActorRef[],
    idle: boolean,
    now: { rows: number; queued: number; queuedTokens: number; contextTokens: number; draftDepth: number },
  ): void {
    if (!this.#dirty || (!idle && ctx.now() - this.#reportedAt < this.reportMs)) return;
    this.#dirty = false;
    this.#reportedAt = ctx.now();
    const kv = this.engine.kv();
    const message: AppMessage = {
      type: "load",
      role: this.role,
      pair: this.pair,
      ...now,
      taken: this.taken,
      endedHere: this.ended,
      stepMs: this.#stepMs,
      tokenMs: this.#tokenMs,
      steps: this.#steps,
      busyMs: this.#busyMs,
      preemptions: this.preemptions,
      spareBlocks: kv.freeBlocks + kv.cachedBlocks,
    };
    for (const ref of to) ctx.tell(ref, message);
  }
}
