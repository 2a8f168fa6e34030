import type { ActorRef, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

/** How often a full edge is tried by an owner that has nothing else to do, in milliseconds. */
const RETRY_MS = 2;

/**
 * Messages that a `refuse` edge had no room for, in order, sent again at the next chance. It is as bounded as
 * what its owner says: each request has few messages under way on such an edge, and requests are bounded.
 */
export class Outbox {
  #waiting: AppMessage[] = [];
  /** A timer of this incarnation will wake the owner. */
  #armed = false;

  /** `retryMs`: after so long a full edge is tried again. */
  constructor(
    readonly to: ActorRef,
    readonly retryMs: number = RETRY_MS,
  ) {}

  get size(): number {
    return this.#waiting.length;
  }

  send(ctx: Context<AppMessage>, message: AppMessage): void {
    if (this.#waiting.length > 0 || !ctx.tell(this.to, message)) this.#waiting.push(message);
    this.#wakeLater(ctx);
  }

  /** The `retry` that it asked for has come, or its timer died with an incarnation: sends again what waits. */
  retry(ctx: Context<AppMessage>): void {
    this.#armed = false;
    this.flush(ctx);
  }

  /** Gives up what waits: nobody will ever take it. */
  clear(): void {
    this.#waiting = [];
  }

  /** True when nothing waits any more. */
  flush(ctx: Context<AppMessage>): boolean {
    let sent = 0;
    while (sent < this.#waiting.length && ctx.tell(this.to, this.#waiting[sent] as AppMessage)) sent++;
    if (sent > 0) this.#waiting = this.#waiting.slice(sent);
    this.#wakeLater(ctx);
    return this.#waiting.length === 0;
  }

  // An idle owner would not look here again: what it has to say might be what all others wait for.
  #wakeLater(ctx: Context<AppMessage>): void {
    if (this.#armed || this.#waiting.length === 0) return;
    this.#armed = true;
    ctx.after(this.retryMs, { type: "retry" });
  }
}
