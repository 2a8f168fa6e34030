import type { Context, TimerId } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

/** One `tick` under way at most: the soonest that anyone asked for. */
export class Ticker {
  #at = Number.POSITIVE_INFINITY;
  #timer: TimerId | undefined;

  /** Ticks in `ms` at the latest. */
  within(ctx: Context<AppMessage>, ms: number): void {
    const at = ctx.now() + ms;
    if (this.#at <= at) return;
    if (this.#timer !== undefined) ctx.cancelTimer(this.#timer);
    this.#at = at;
    this.#timer = ctx.after(ms, { type: "tick" });
  }

  /** The tick has come, or its timer died with an incarnation. */
  clear(): void {
    this.#at = Number.POSITIVE_INFINITY;
    this.#timer = undefined;
  }
}
