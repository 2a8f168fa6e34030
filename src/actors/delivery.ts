import type { DeliveredTokens } from "../gateway/generation.js";
import type { LiveRequest } from "./live-request.js";
import { CANCEL, DECODE, FINISH, type MessageNamed, UNLIMITED } from "./messages.js";
import type { RequestEnding } from "./request-ending.js";
import { eachRow, type TokenRow } from "./token-batch.js";

/** Tokens on their last way: from lanes' messages to readers, as fast as readers' credit allows. */
export class Delivery {
  constructor(readonly ending: RequestEnding) {}

  tokens(message: MessageNamed<"tokens">): void {
    eachRow(message, (row, delivered) => {
      const live = this.ending.live.of(row);
      if (!live) return;
      if (message.role === DECODE) live.lane = this.ending.post.ctx.sender;
      this.#deliver(live, row, delivered(), message.role);
    });
  }

  /** The reader takes so many tokens more. */
  grant(live: LiveRequest, tokens: number): void {
    if (!(tokens > 0)) return;
    live.creditUpTo = Math.min(UNLIMITED, live.creditUpTo + Math.floor(tokens));
    if (live.closing !== undefined) return;
    const { post } = this.ending;
    live.flush(post.ctx.now());
    if (live.answered) return;
    if (live.finish && !live.holds) this.ending.finished(live);
    else if (!live.finish) post.tellCredit(live);
  }

  #deliver(live: LiveRequest, row: TokenRow, delivered: DeliveredTokens, role: number): void {
    const { post, counters } = this.ending;
    const { ctx } = post;
    if (!live.resumed) live.cachedTokens = row.cachedTokens;
    live.draftTokens += row.drafts;
    live.acceptedTokens += row.accepted;
    const before = live.received;
    if (!live.receive(delivered, ctx.now())) {
      ctx.log("error", "gap in delivered tokens", { ...live.identity, index: row.index, received: before });
      post.tellCancel(live, CANCEL.client);
      this.ending.failed(live, "internal", `Tokens ${before} to ${row.index} of the output never arrived.`);
      return;
    }
    counters.outputTokens += live.received - before;
    if (live.begun < live.attempt) {
      live.begun = live.attempt;
      // A signal: where there is no room for it, nothing is lost but a lesson.
      post.offer({ type: "began", ...live.identity, at: ctx.now() });
    }
    if (before === 0) ctx.trace("first token", live.submittedAt, live.id, role);
    if (live.closing === undefined || live.closing === "stopped") live.flush(ctx.now());
    if (row.finish === FINISH.none || !this.ending.live.has(live)) return;
    live.finish = row.finish === FINISH.stop ? "stop" : "length";
    this.ending.letGo(live);
    if (live.closing !== undefined || !live.holds) this.ending.finished(live);
  }
}
