import type { ActorRef, Context } from "../runtime/actor.js";
import type { LiveRequest } from "./live-request.js";
import type { AppMessage } from "./messages.js";

/** Takes readers' credit to the decode lanes; what a full edge refused is owed, one entry a request. */
export class CreditPost {
  readonly #owed = new Set<LiveRequest>();

  /** True while some lane could not be told. */
  get owing(): boolean {
    return this.#owed.size > 0;
  }

  /** Before a request's decode lane is known there is no one to tell: the lane asks when it needs more. */
  tell(ctx: Context<AppMessage>, lanes: readonly ActorRef[], live: LiveRequest): void {
    const lane = live.pair === undefined ? undefined : lanes[live.pair];
    if (lane === undefined) return;
    const told = ctx.tell(lane, { type: "credit", ...live.identity, upTo: live.creditUpTo });
    if (!told) this.#owed.add(live);
  }

  retry(ctx: Context<AppMessage>, lanes: readonly ActorRef[]): void {
    const owed = [...this.#owed];
    this.#owed.clear();
    for (const live of owed) this.tell(ctx, lanes, live);
  }

  forget(live: LiveRequest): void {
    this.#owed.delete(live);
  }
}
