import { type ErrorCode, StreamServeError } from "../errors.js";
import type { FinishReason } from "../gateway/generation.js";
import { DEADLINE_REASON } from "./endings.js";
import type { GatewayCounters } from "./gateway-counters.js";
import type { GatewayPost } from "./gateway-post.js";
import type { Closing, LiveRequest } from "./live-request.js";
import type { LiveRequests } from "./live-requests.js";
import { CANCEL, FINISH } from "./messages.js";

/** How requests end at the gateway. Every one ends exactly once: `#end` is the only way out. */
export class RequestEnding {
  constructor(
    readonly live: LiveRequests,
    readonly post: GatewayPost,
    readonly counters: GatewayCounters,
  ) {}

  /** Takes a request back: its last word comes from whoever holds it. */
  close(live: LiveRequest, why: Closing): void {
    if (live.closing !== undefined) return;
    live.closing = why;
    live.closingSince = this.post.ctx.now();
    if (live.finish) {
      this.finished(live);
      return;
    }
    this.passCancel(live, why);
  }

  /** Asks for the last word on a request that is taken back. */
  passCancel(live: LiveRequest, why: Closing): void {
    this.post.tellCancel(live, why === "deadline" ? CANCEL.deadline : CANCEL.client);
  }

  /** The reader hears of its deadline in time, however long the lanes take to let go. */
  deadline(live: LiveRequest): void {
    if (live.closing === "stopped") return;
    live.answerFailed(new StreamServeError("deadline_exceeded", DEADLINE_REASON));
    if (live.closing !== undefined) live.closing = "deadline";
    else this.close(live, "deadline");
  }

  /** All of its tokens are here, and its reader has been given what it may have. */
  finished(live: LiveRequest): void {
    if (live.closing === "cancelled" || live.closing === "deadline") {
      this.closed(live);
      return;
    }
    this.#done(live, live.closing === "stopped" ? "stop" : (live.finish ?? "stop"));
  }

  /** Nobody holds it any more that was taken back. */
  closed(live: LiveRequest): void {
    if (live.closing === "stopped") this.#done(live, "stop");
    else if (live.closing === "deadline") this.failed(live, "deadline_exceeded", DEADLINE_REASON);
    else this.failed(live, "cancelled", "The request was cancelled.");
  }

  failed(live: LiveRequest, code: ErrorCode, reason: string, retryAfterMs = 0): void {
    if (live.closing === "stopped" && code === "cancelled") {
      this.#done(live, "stop");
      return;
    }
    this.#end(live, code);
    live.answerFailed(new StreamServeError(code, reason, retryAfterMs > 0 ? { retryAfterMs } : {}));
  }

  /** No lane holds this attempt any more, and another may follow: gives back its reservation. */
  giveBack(live: LiveRequest): void {
    const told = { outputTokens: live.received, finish: FINISH.none, tokenMs: 0 };
    this.post.tellScheduler({ type: "ended", ...live.identity, ...told });
  }

  /** No lane holds the request any more: gives back its reservation and its region. */
  letGo(live: LiveRequest): void {
    if (live.letGo) return;
    live.letGo = true;
    const { received: outputTokens, tokenMs } = live;
    const stopped = live.finish === "stop" || live.closing === "stopped";
    const finish = stopped ? FINISH.stop : live.finish === "length" ? FINISH.length : FINISH.none;
    this.post.tellScheduler({ type: "ended", ...live.identity, outputTokens, finish, tokenMs });
    this.post.ctx.slab().free(live.region.ref);
  }

  #done(live: LiveRequest, finish: FinishReason): void {
    this.#end(live, finish);
    live.answerDone(finish, this.post.ctx.now());
  }

  #end(live: LiveRequest, how: string): void {
    this.live.remove(live);
    this.post.forget(live);
    if (live.deadlineTimer !== undefined) this.post.ctx.cancelTimer(live.deadlineTimer);
    this.counters.ended(how);
    this.counters.draftTokens += live.draftTokens;
    this.counters.acceptedTokens += live.acceptedTokens;
    this.letGo(live);
  }
}
