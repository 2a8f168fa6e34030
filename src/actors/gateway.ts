import type { KvCounts } from "../engine/engine.js";
import { type ErrorCode, StreamServeError } from "../errors.js";
import type {
  DeliveredTokens,
  FinishReason,
  Generation,
  GenerationRequest,
  GenerationService,
  GenerationSink,
  ServiceInfo,
  ServiceSnapshot,
} from "../gateway/generation.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { cacheSalt } from "./cache-salt.js";
import { CreditPost } from "./credit-post.js";
import { DEADLINE_REASON } from "./endings.js";
import { GatewayCounters } from "./gateway-counters.js";
import { type Closing, LiveRequest } from "./live-request.js";
import { type AppMessage, CANCEL, DECODE, FINISH, LOST, type MessageNamed, UNLIMITED } from "./messages.js";
import { Outbox } from "./outbox.js";
import { PromptRegion, regionBytes } from "./prompt-region.js";
import { checkRequest } from "./request-check.js";
import { Ticker } from "./ticker.js";
import { eachRow, type TokenRow } from "./token-batch.js";

/** Counts that the actor system and the engine keep, not the actors. */
export interface SystemCounts {
  readonly kv: KvCounts;
  readonly deadLetters: number;
  readonly restarts: number;
}

export interface GatewayOptions {
  readonly info: ServiceInfo;
  /** Attempts of one request, at most: what kills its lane every time must not do so for ever. */
  readonly maxAttempts: number;
  /** Tenants share no cached prefixes. */
  readonly isolateTenants: boolean;
  /** Held tokens that the reader does not take for so long fail the request, in milliseconds. */
  readonly stallMs: number;
  /** A request that was taken back is let go after so long even if no lane confirms, in milliseconds. */
  readonly closeMs: number;
  /** How often the above are looked at, and full edges tried again, in milliseconds. */
  readonly tickMs: number;
  readonly retryMs: number;
}

type Ctx = Context<AppMessage>;

/**
 * The doors' end of the actors, on the main thread: a live object of the host program, which hands it to the
 * actor system and uses it as the doors' service. It gives requests their identity, owns the slab that their
 * prompts lie in, and holds the truth of what was delivered; a request whose lane dies is submitted again from
 * here. Every request ends exactly once: `#end` is the only way out.
 */
export class GatewayActor implements Behaviour<AppMessage>, GenerationService {
  readonly #live = new Map<number, LiveRequest>();
  readonly #counters = new GatewayCounters();
  readonly #credit = new CreditPost();
  readonly #ticker = new Ticker();
  /** Not heeded yet. */
  readonly #lost: MessageNamed<"lost">[] = [];
  #nextId = 1;
  #draining = false;
  #ctx!: Ctx;
  #scheduler!: Outbox;
  #schedulerUp = -1;
  #decodes: readonly ActorRef[] = [];

  constructor(
    readonly options: GatewayOptions,
    readonly system: () => SystemCounts,
  ) {}

  get info(): ServiceInfo {
    return this.options.info;
  }

  started(ctx: Ctx): void {
    this.#ctx = ctx;
    const scheduler = ctx.ref("scheduler");
    this.#scheduler ??= new Outbox(scheduler);
    this.#decodes = ctx.refs("decode");
    for (const ref of [scheduler, ...this.#decodes]) ctx.watch(ref);
    // After a restart: requests are still here, timers are not.
    this.#ticker.clear();
    for (const live of this.#live.values()) this.#armDeadline(live);
    if (this.#live.size > 0) this.#ticker.within(this.#ctx, this.options.retryMs);
  }

  /** From now on new requests are refused with `draining`; running ones go on. */
  drain(): void {
    this.#draining = true;
  }

  /** Cancels everything. */
  cancelAll(): void {
    for (const live of [...this.#live.values()]) this.#close(live, "cancelled");
  }

  /** Requests that have not ended. */
  get open(): number {
    return this.#live.size;
  }

  snapshot(): ServiceSnapshot {
    let waiting = 0;
    for (const live of this.#live.values()) if (live.admittedAt === undefined) waiting++;
    return this.#counters.snapshot(this.#live.size - waiting, waiting, this.system());
  }

  generate(request: GenerationRequest, sink: GenerationSink): Generation {
    const id = this.#nextId;
    this.#nextId = (this.#nextId % 0xffffffff) + 1;
    const error = this.#submit(id, request, sink);
    if (error) {
      this.#counters.ended(error.code);
      sink.failed(error);
    }
    return {
      cancel: () => this.#closeById(id, "cancelled"),
      stop: () => this.#closeById(id, "stopped"),
      grant: (tokens) => this.#grant(id, tokens),
    };
  }

  receive(message: AppMessage, ctx: Ctx): void {
    switch (message.type) {
      case "tokens":
        this.#tokens(message, ctx);
        return;
      case "admitted": {
        const live = this.#find(message);
        if (live) live.admittedAt ??= message.at;
        return;
      }
      case "failed": {
        const live = this.#find(message);
        if (live) this.#endFailed(live, message.code as ErrorCode, message.reason, message.retryAfterMs);
        return;
      }
      case "lost":
        this.#lost.push(message);
        return;
      case "starved": {
        const live = this.#find(message);
        if (!live) return;
        live.pair = message.pair;
        if (live.creditUpTo > message.upTo) this.#tellCredit(live);
        return;
      }
      case "hello":
        this.#schedulerIsUp(message.incarnation);
        return;
      case "load":
        this.#counters.load(message);
        return;
      case "deadline": {
        const live = this.#live.get(message.request);
        if (live) this.#deadline(live);
        return;
      }
      case "tick":
        this.#tick(ctx);
        return;
    }
  }

  /** What is lost begins again once all is read that lanes had said before: its last tokens may be among that. */
  drained(): void {
    for (const message of this.#lost.splice(0)) {
      const live = this.#find(message);
      if (live && !live.finish) this.#resubmit(live, message.cause);
    }
  }

  terminated(ref: ActorRef, restarting: boolean): void {
    const pair = this.#decodes.indexOf(ref);
    if (pair >= 0) {
      // All that the lane had sent has been heard, so what it held then begins again at once: an audit would find
      // out too, but waits for steps of the prefill lane.
      for (const live of [...this.#live.values()])
        if (live.pair === pair && !live.finish) this.#resubmit(live);
      return;
    }
    if (restarting) return;
    this.#draining = true;
    for (const live of [...this.#live.values()]) {
      this.#endFailed(
        live,
        "internal",
        "The scheduler failed too often and was given up: restart the server.",
      );
    }
    this.#scheduler.clear();
  }

  inspect(): Readonly<Record<string, unknown>> {
    return { live: this.#live.size, outbox: this.#scheduler.size, slabFree: this.#ctx.slab().freeBytes };
  }

  /** Its actor has ended for good: so does every request. */
  stopped(): void {
    this.#draining = true;
    for (const live of [...this.#live.values()]) {
      this.#endFailed(live, "cancelled", "The server stopped before the request was done.");
    }
  }

  #submit(id: number, request: GenerationRequest, sink: GenerationSink): StreamServeError | undefined {
    if (this.#draining) {
      return new StreamServeError("draining", "The server is shutting down: send the request elsewhere.");
    }
    const wrong = checkRequest(request, this.options.info);
    if (wrong) return wrong;
    const ctx = this.#ctx;
    const { sampling, prompt, maxTokens } = request;
    const bytes = regionBytes(sampling.stopIds.length, sampling.logitBias.size, prompt.length, maxTokens);
    const ref = ctx.slab().allocate(bytes);
    const full = new StreamServeError("overloaded", "Too many requests are waiting: try again later.", {
      retryAfterMs: 1000,
    });
    if (!ref) return full;
    const region = new PromptRegion(ref, ctx.bytes(ref), prompt, sampling);
    const salt = cacheSalt(this.options.isolateTenants, request.tenant, request.cacheSalt);
    const live = new LiveRequest(id, request, sink, region, salt, ctx.now());
    ctx.traceId = id;
    if (this.#scheduler.size > 0 || !ctx.tell(this.#scheduler.to, { type: "submit", ...live.journey() })) {
      ctx.slab().free(ref);
      return full;
    }
    this.#live.set(id, live);
    this.#counters.promptTokens += prompt.length;
    this.#armDeadline(live);
    this.#ticker.within(this.#ctx, this.options.tickMs);
    return undefined;
  }

  #armDeadline(live: LiveRequest): void {
    if (live.deadline === 0) return;
    const left = Math.max(0, live.deadline - this.#ctx.now());
    live.deadlineTimer = this.#ctx.after(left, { type: "deadline", request: live.id, attempt: 0 });
  }

  #find(message: { request: number; attempt: number }): LiveRequest | undefined {
    const live = this.#live.get(message.request);
    return live?.attempt === message.attempt ? live : undefined;
  }

  #tokens(message: MessageNamed<"tokens">, ctx: Ctx): void {
    eachRow(message, (row, delivered) => {
      const live = this.#find(row);
      if (!live) return;
      if (message.role === DECODE) live.pair = message.pair;
      this.#deliver(live, row, delivered(), message.role, ctx);
    });
  }

  #deliver(live: LiveRequest, row: TokenRow, delivered: DeliveredTokens, role: number, ctx: Ctx): void {
    if (live.attempt === 0) live.cachedTokens = row.cachedTokens;
    live.draftTokens += row.drafts;
    live.acceptedTokens += row.accepted;
    const before = live.received;
    if (!live.receive(delivered, ctx.now())) {
      ctx.log("error", "gap in delivered tokens", { ...live.identity, index: row.index, received: before });
      this.#tellCancel(live, CANCEL.client);
      this.#endFailed(live, "internal", `Tokens ${before} to ${row.index} of the output never arrived.`);
      return;
    }
    this.#counters.outputTokens += live.received - before;
    if (live.begun < live.attempt) {
      live.begun = live.attempt;
      // A signal: where there is no room for it, nothing is lost but a lesson.
      if (this.#scheduler.size === 0) {
        ctx.tell(this.#scheduler.to, { type: "began", ...live.identity, at: ctx.now() });
      }
    }
    if (before === 0) ctx.trace("first token", live.submittedAt, live.id, role);
    if (live.closing === undefined || live.closing === "stopped") live.flush(ctx.now());
    if (row.finish === FINISH.none || this.#live.get(live.id) !== live) return;
    live.finish = row.finish === FINISH.stop ? "stop" : "length";
    this.#letGo(live);
    if (live.closing !== undefined || !live.holds) this.#endFinished(live);
  }

  #resubmit(live: LiveRequest, cause: number = LOST.lane): void {
    if (live.closing !== undefined) {
      this.#endClosed(live);
      return;
    }
    live.attempt++;
    live.pair = undefined;
    if (cause !== LOST.preempted) live.interruptions++;
    if (live.interruptions >= this.options.maxAttempts) {
      const reason = `The request was interrupted ${live.interruptions} times: try again later.`;
      this.#endFailed(live, "lane_failed", reason, 1000);
      return;
    }
    this.#counters.resumptions++;
    this.#ctx.traceId = live.id;
    this.#tellScheduler({ type: "submit", ...live.journey() });
  }

  #schedulerIsUp(incarnation: number): void {
    if (incarnation <= this.#schedulerUp) return;
    const first = this.#schedulerUp < 0 && incarnation === 0;
    this.#schedulerUp = incarnation;
    // A new scheduler knows of nothing, and its lanes drop what the one before it sent.
    if (!first) for (const live of [...this.#live.values()]) if (!live.finish) this.#resubmit(live);
  }

  #grant(id: number, tokens: number): void {
    const live = this.#live.get(id);
    if (!live || !(tokens > 0)) return;
    live.creditUpTo = Math.min(UNLIMITED, live.creditUpTo + Math.floor(tokens));
    if (live.closing !== undefined) return;
    live.flush(this.#ctx.now());
    if (live.answered) return;
    if (live.finish && !live.holds) this.#endFinished(live);
    else if (!live.finish) this.#tellCredit(live);
  }

  #tellCredit(live: LiveRequest): void {
    this.#credit.tell(this.#ctx, this.#decodes, live);
    if (this.#credit.owing) this.#ticker.within(this.#ctx, this.options.retryMs);
  }

  #closeById(id: number, why: Closing): void {
    const live = this.#live.get(id);
    if (live) this.#close(live, why);
  }

  /** Takes a request back: its last word comes from whoever holds it. */
  #close(live: LiveRequest, why: Closing): void {
    if (live.closing !== undefined) return;
    live.closing = why;
    live.closingSince = this.#ctx.now();
    if (live.finish) {
      this.#endFinished(live);
      return;
    }
    this.#tellCancel(live, why === "deadline" ? CANCEL.deadline : CANCEL.client);
  }

  #tellCancel(live: LiveRequest, reason: number): void {
    this.#tellScheduler({ type: "cancel", ...live.identity, generation: 0, pair: 0, reason });
  }

  /** The reader hears of its deadline in time, however long the lanes take to let go. */
  #deadline(live: LiveRequest): void {
    if (live.closing === "stopped") return;
    live.answerFailed(new StreamServeError("deadline_exceeded", DEADLINE_REASON));
    if (live.closing !== undefined) live.closing = "deadline";
    else this.#close(live, "deadline");
  }

  #tellScheduler(message: AppMessage): void {
    this.#scheduler.send(this.#ctx, message);
    if (this.#scheduler.size > 0) this.#ticker.within(this.#ctx, this.options.retryMs);
  }

  #tick(ctx: Ctx): void {
    this.#ticker.clear();
    this.#scheduler.flush(ctx);
    this.#credit.retry(ctx, this.#decodes);
    const now = ctx.now();
    for (const live of [...this.#live.values()]) {
      const { closeMs, stallMs } = this.options;
      if (live.closing !== undefined && now - live.closingSince >= closeMs) this.#endClosed(live);
      // While a decode lane has its KV, that lane counts the same time and ends it.
      else if (live.finish && live.heldSince !== undefined && now - live.heldSince >= stallMs) {
        const reason = `The reader took nothing for ${stallMs} ms: read faster, or ask for fewer tokens.`;
        this.#endFailed(live, "slow_reader", reason);
      }
    }
    if (this.#scheduler.size > 0 || this.#credit.owing) this.#ticker.within(ctx, this.options.retryMs);
    else if (this.#live.size > 0) this.#ticker.within(ctx, this.options.tickMs);
  }

  #endFinished(live: LiveRequest): void {
    if (live.closing === "cancelled" || live.closing === "deadline") {
      this.#endClosed(live);
      return;
    }
    this.#endDone(live, live.closing === "stopped" ? "stop" : (live.finish ?? "stop"));
  }

  #endClosed(live: LiveRequest): void {
    if (live.closing === "stopped") this.#endDone(live, "stop");
    else if (live.closing === "deadline") this.#endFailed(live, "deadline_exceeded", DEADLINE_REASON);
    else this.#endFailed(live, "cancelled", "The request was cancelled.");
  }

  #endDone(live: LiveRequest, finish: FinishReason): void {
    this.#end(live, finish);
    live.answerDone(finish, this.#ctx.now());
  }

  #endFailed(live: LiveRequest, code: ErrorCode, reason: string, retryAfterMs = 0): void {
    if (live.closing === "stopped" && code === "cancelled") {
      this.#endDone(live, "stop");
      return;
    }
    this.#end(live, code);
    live.answerFailed(new StreamServeError(code, reason, retryAfterMs > 0 ? { retryAfterMs } : {}));
  }

  #end(live: LiveRequest, how: string): void {
    const ctx = this.#ctx;
    this.#live.delete(live.id);
    this.#credit.forget(live);
    if (live.deadlineTimer !== undefined) ctx.cancelTimer(live.deadlineTimer);
    this.#counters.ended(how);
    this.#counters.draftTokens += live.draftTokens;
    this.#counters.acceptedTokens += live.acceptedTokens;
    this.#letGo(live);
  }

  /** No lane holds the request any more: gives back its reservation and its region. */
  #letGo(live: LiveRequest): void {
    if (live.letGo) return;
    live.letGo = true;
    const { received: outputTokens, tokenMs } = live;
    const stopped = live.finish === "stop" || live.closing === "stopped";
    const finish = stopped ? FINISH.stop : live.finish === "length" ? FINISH.length : FINISH.none;
    this.#tellScheduler({ type: "ended", ...live.identity, outputTokens, finish, tokenMs });
    this.#ctx.slab().free(live.region.ref);
  }
}
