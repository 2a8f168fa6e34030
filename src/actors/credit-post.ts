import type { Context } from "../runtime/actor.js";
import type { LiveRequest } from "./live-request.js";
import type { AppMessage } from "./messages.js";

/** Takes readers' credit to the lanes that decode; what a full edge refused is owed, one entry a request. */
export class CreditPost {
  readonly #owed = new Set<LiveRequest>();

  /** True while some lane could not be told. */
  get owing(): boolean {
    return this.#owed.size > 0;
  }

  /** Before it is known which lane decodes a request there is no one to tell: the lane asks when it needs more. */
  tell(ctx: Context<AppMessage>, live: LiveRequest): void {
    if (live.lane === undefined) return;
    const told = ctx.tell(live.lane, { type: "credit", ...live.identity, upTo: live.creditUpTo });
    if (!told) this.#owed.add(live);
  }

  retry(ctx: Context<AppMessage>): void {
    const owed = [...this.#owed];
    this.#owed.clear();
    for (const live of owed) this.tell(ctx, live);
  }

  forget(live: LiveRequest): void {
    this.#owed.delete(live);
  }
}
