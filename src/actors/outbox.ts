import type { ActorRef, Context } from "../runtime/actor.js";
import type { AppMessage } from "./messages.js";

/**
 * Messages that a `refuse` edge had no room for, in order, sent again at the next chance. It is as bounded as
 * what its owner says: each request has few messages under way on such an edge, and requests are bounded.
 */
export class Outbox {
  #waiting: AppMessage[] = [];

  constructor(readonly to: ActorRef) {}

  get size(): number {
    return this.#waiting.length;
  }

  send(ctx: Context<AppMessage>, message: AppMessage): void {
    if (this.#waiting.length > 0 || !ctx.tell(this.to, message)) this.#waiting.push(message);
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
    return this.#waiting.length === 0;
  }
}
