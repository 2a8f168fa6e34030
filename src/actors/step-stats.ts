import type { RowResult } from "../engine/engine.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

/** Gathers what the tuner learns from, over several steps: telling it of each would wake it at every step. */
export class StepStats {
  #steps: { rows: number; tokens: number; contextTokens: number; computeMs: number }[] = [];
  readonly #chances: Uint32Array;
  readonly #proposed: Uint32Array;
  readonly #accepted: Uint32Array;

  constructor(
    readonly pair: number,
    maxDepth: number,
    /** Steps told of in one message. */
    readonly batch: number,
  ) {
    this.#chances = new Uint32Array(maxDepth);
    this.#proposed = new Uint32Array(maxDepth);
    this.#accepted = new Uint32Array(maxDepth);
  }

  /** One row's part of a step that was allowed `allowed` drafts and made `drafts`. */
  row(allowed: number, drafts: number, result: RowResult): void {
    for (let i = 0; i < allowed && i < this.#chances.length; i++) {
      this.#chances[i]!++;
      if (i < drafts) this.#proposed[i]!++;
      if (i < result.accepted) this.#accepted[i]!++;
    }
  }

  step(rows: number, tokens: number, contextTokens: number, computeMs: number): void {
    this.#steps.push({ rows, tokens, contextTokens, computeMs });
  }

  /** Tells the tuner when a batch is full. */
  report(ctx: Context<AppMessage>, tuner: ActorRef): void {
    if (this.#steps.length < this.batch) return;
    ctx.tell(tuner, {
      type: "stats",
      pair: this.pair,
      steps: this.#steps,
      chances: this.#chances.slice(),
      proposed: this.#proposed.slice(),
      accepted: this.#accepted.slice(),
    });
    this.#steps = [];
    this.#chances.fill(0);
    this.#proposed.fill(0);
    this.#accepted.fill(0);
  }
}
