import type { ActorRef, Context } from "../runtime/actor.js";
import { CreditPost } from "./credit-post.js";
import type { LiveRequest } from "./live-request.js";
import type { AppMessage } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Ticker } from "./ticker.js";

type Ctx = Context<AppMessage>;

/** What the gateway says to scheduler and lanes, and the ticks by which full edges are tried again. */
export class GatewayPost {
  readonly #credit = new CreditPost();
  readonly #ticker = new Ticker();
  #ctx!: Ctx;
  #scheduler!: Outbox;
  #lanes: readonly ActorRef[] = [];

  /** `retryMs`: after so long a full edge is tried again. */
  constructor(readonly retryMs: number) {}

  /** Of the gateway's present incarnation. */
  get ctx(): Ctx {
    return this.#ctx;
  }

  /** Messages that wait for room on the way to the scheduler. */
  get waiting(): number {
    return this.#scheduler.size;
  }

  /** An incarnation begins: what waited still does, timers are gone. */
  started(ctx: Ctx): void {
    this.#ctx = ctx;
    const scheduler = ctx.ref("scheduler");
    this.#scheduler ??= new Outbox(scheduler, this.retryMs);
    this.#lanes = [...ctx.refs("decode"), ...ctx.refs("prefill")];
    for (const ref of [scheduler, ...this.#lanes]) ctx.watch(ref);
    this.#ticker.clear();
    this.retryScheduler();
  }

  /** Whether it is a lane. */
  isLane(ref: ActorRef): boolean {
    return this.#lanes.includes(ref);
  }

  /** False, and nothing sent, where it would have to wait. */
  offer(message: AppMessage): boolean {
    return this.#scheduler.size === 0 && this.#ctx.tell(this.#scheduler.to, message);
  }

  tellScheduler(message: AppMessage): void {
    this.#scheduler.send(this.#ctx, message);
  }

  tellCancel(live: LiveRequest, reason: number): void {
    this.tellScheduler({ type: "cancel", ...live.identity, generation: 0, pair: 0, reason });
  }

  tellCredit(live: LiveRequest): void {
    this.#credit.tell(this.#ctx, live);
    if (this.#credit.owing) this.tickWithin(this.retryMs);
  }

  /** Its credit is of no use any more. */
  forget(live: LiveRequest): void {
    this.#credit.forget(live);
  }

  /** Gives up what waits for the scheduler: it is gone. */
  clear(): void {
    this.#scheduler.clear();
  }

  tickWithin(ms: number): void {
    this.#ticker.within(this.#ctx, ms);
  }

  /** Its time has come: what waits for the scheduler is sent again. */
  retryScheduler(): void {
    this.#scheduler.retry(this.#ctx);
  }

  /** The tick has come: tries credit again that waits. */
  retry(): void {
    this.#ticker.clear();
    this.#credit.retry(this.#ctx);
  }

  /** Whether credit still waits for room. */
  get owing(): boolean {
    return this.#credit.owing;
  }
}
