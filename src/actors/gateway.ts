import { type ErrorCode, StreamServeError } from "../errors.js";
import type {
  Generation,
  GenerationRequest,
  GenerationService,
  GenerationSink,
  ServiceInfo,
  ServiceSnapshot,
} from "../gateway/generation.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { cacheSalt } from "./cache-salt.js";
import { Delivery } from "./delivery.js";
import { GatewayCounters } from "./gateway-counters.js";
import type { GatewayOptions, SystemCounts } from "./gateway-options.js";
import { GatewayPost } from "./gateway-post.js";
import { type Closing, LiveRequest } from "./live-request.js";
import { LiveRequests } from "./live-requests.js";
import { type AppMessage, CANCEL, LOST, type MessageNamed } from "./messages.js";
import { PromptRegion, regionBytes } from "./prompt-region.js";
import { checkRequest } from "./request-check.js";
import { RequestEnding } from "./request-ending.js";

/**
 * The doors' end of the actors, on the main thread: a live object of the host program, which hands it to the
 * actor system and uses it as the doors' service. It gives requests their identity, owns the slab that their
 * prompts lie in, and holds the truth of what was delivered; a request whose lane dies is submitted again from
 * here. How tokens come, and requests end: `delivery.ts`, `request-ending.ts`.
 */
export class GatewayActor implements Behaviour<AppMessage>, GenerationService {
  readonly #live = new LiveRequests();
  readonly #counters = new GatewayCounters();
  readonly #post: GatewayPost;
  readonly #ending: RequestEnding;
  readonly #delivery: Delivery;
  /** Not heeded yet. */
  readonly #lost: MessageNamed<"lost">[] = [];
  #nextId = 1;
  #draining = false;
  #schedulerUp = -1;

  constructor(
    readonly options: GatewayOptions,
    readonly system: () => SystemCounts,
  ) {
    this.#post = new GatewayPost(options.retryMs);
    this.#ending = new RequestEnding(this.#live, this.#post, this.#counters);
    this.#delivery = new Delivery(this.#ending);
  }

  get info(): ServiceInfo {
    return this.options.info;
  }

  started(ctx: Context<AppMessage>): void {
    this.#post.started(ctx);
    // After a restart: requests are still here, timers are not.
    for (const live of this.#live.all()) this.#armDeadline(live);
    if (this.#live.size > 0) this.#post.tickWithin(this.options.retryMs);
  }

  /** From now on new requests are refused with `draining`; running ones go on. */
  drain(): void {
    this.#draining = true;
  }

  /** Cancels everything. */
  cancelAll(): void {
    for (const live of this.#live.all()) this.#ending.close(live, "cancelled");
  }

  /** Requests that have not ended. */
  get open(): number {
    return this.#live.size;
  }

  snapshot(): ServiceSnapshot {
    const { waiting } = this.#live;
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
      grant: (tokens) => {
        const live = this.#live.get(id);
        if (!live) return;
        this.#delivery.grant(live, tokens);
        if (live.suspended && !live.idle && this.#live.has(live)) this.#resume(live);
      },
    };
  }

  receive(message: AppMessage): void {
    switch (message.type) {
      case "tokens":
        this.#delivery.tokens(message);
        return;
      case "admitted": {
        const live = this.#live.of(message);
        if (!live) return;
        live.admittedAt ??= message.at;
        live.admitted = live.attempt;
        return;
      }
      case "failed": {
        const live = this.#live.of(message);
        if (live) this.#ending.failed(live, message.code as ErrorCode, message.reason, message.retryAfterMs);
        return;
      }
      case "lost":
        this.#lost.push(message);
        return;
      case "starved": {
        const live = this.#live.of(message);
        if (!live) return;
        live.lane = this.#post.ctx.sender;
        live.starved = true;
        if (live.creditUpTo > message.upTo) this.#post.tellCredit(live);
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
        if (live) this.#ending.deadline(live);
        return;
      }
      case "retry":
        this.#post.retryScheduler();
        return;
      case "tick":
        this.#tick();
        return;
    }
  }

  /** What is lost begins again once all is read that lanes had said before: its last tokens may be among that. */
  drained(): void {
    for (const message of this.#lost.splice(0)) {
      const live = this.#live.of(message);
      if (!live || live.finish || live.suspended) continue;
      if (live.idle && message.cause === LOST.preempted) this.#suspend(live);
      else this.#resubmit(live, message.cause);
    }
  }

  terminated(ref: ActorRef, restarting: boolean): void {
    if (this.#post.isLane(ref)) {
      // All that the lane had sent has been heard, so what it held then begins again at once: an audit would find
      // out too, but waits for steps of the prefill lane.
      for (const live of this.#live.all()) if (live.lane === ref && !live.finish) this.#resubmit(live);
      return;
    }
    if (restarting) return;
    this.#draining = true;
    for (const live of this.#live.all()) {
      this.#ending.failed(
        live,
        "internal",
        "The scheduler failed too often and was given up: restart the server.",
      );
    }
    this.#post.clear();
  }

  inspect(): Readonly<Record<string, unknown>> {
    return { live: this.#live.size, outbox: this.#post.waiting, slabFree: this.#post.ctx.slab().freeBytes };
  }

  /** Its actor has ended for good: so does every request. */
  stopped(): void {
    this.#draining = true;
    for (const live of this.#live.all()) {
      this.#ending.failed(live, "cancelled", "The server stopped before the request was done.");
    }
  }

  #submit(id: number, request: GenerationRequest, sink: GenerationSink): StreamServeError | undefined {
    if (this.#draining) {
      return new StreamServeError("draining", "The server is shutting down: send the request elsewhere.");
    }
    const wrong = checkRequest(request, this.options.info);
    if (wrong) return wrong;
    const { ctx } = this.#post;
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
    if (!this.#post.offer({ type: "submit", ...live.journey() })) {
      ctx.slab().free(ref);
      return full;
    }
    this.#live.add(live);
    this.#counters.promptTokens += prompt.length;
    this.#armDeadline(live);
    this.#post.tickWithin(this.options.tickMs);
    return undefined;
  }

  #armDeadline(live: LiveRequest): void {
    if (live.deadline === 0) return;
    const left = Math.max(0, live.deadline - this.#post.ctx.now());
    live.deadlineTimer = this.#post.ctx.after(left, { type: "deadline", request: live.id, attempt: 0 });
  }

  #resubmit(live: LiveRequest, cause: number = LOST.lane): void {
    if (live.closing !== undefined) {
      this.#ending.closed(live);
      return;
    }
    live.attempt++;
    live.lane = undefined;
    live.resumed = live.admittedAt !== undefined;
    if (live.resumed && cause !== LOST.preempted) live.interruptions++;
    if (live.interruptions >= this.options.maxAttempts) {
      const reason = `The request was interrupted ${live.interruptions} times: try again later.`;
      this.#ending.failed(live, "lane_failed", reason, 1000);
      return;
    }
    if (live.resumed) this.#counters.resumptions++;
    live.queuedAt = this.#post.ctx.now();
    this.#post.ctx.traceId = live.id;
    this.#post.tellScheduler({ type: "submit", ...live.journey() });
  }

  /** Its KV has been taken for others while its reader takes nothing; it comes back when its reader does. */
  #suspend(live: LiveRequest): void {
    live.suspended = true;
    live.lane = undefined;
    live.idleSince ??= this.#post.ctx.now();
    this.#ending.giveBack(live);
  }

  #resume(live: LiveRequest): void {
    live.suspended = false;
    live.idleSince = undefined;
    this.#resubmit(live, LOST.preempted);
  }

  #schedulerIsUp(incarnation: number): void {
    if (incarnation <= this.#schedulerUp) return;
    const first = this.#schedulerUp < 0 && incarnation === 0;
    this.#schedulerUp = incarnation;
    if (first) return;
    for (const live of this.#live.all()) {
      if (live.finish) continue;
      // A new scheduler knows nothing but what its mailbox had kept, and its lanes drop what the one before it sent. What
      // is taken back may have been in that mailbox, so that the new one has sent it to the lanes: it has the last word.
      if (live.closing !== undefined) this.#ending.passCancel(live, live.closing);
      else if (!live.suspended) this.#resubmit(live);
    }
  }

  #closeById(id: number, why: Closing): void {
    const live = this.#live.get(id);
    if (live) this.#ending.close(live, why);
  }

  /**
   * As many requests as wait to be admitted have those give way whose readers take nothing, the longest idle first. It
   * costs these little: full blocks stay in the prefix cache.
   */
  #makeIdleGiveWay(now: number): void {
    const { idleMs, tickMs } = this.options;
    let waiting = 0;
    const idle: LiveRequest[] = [];
    for (const live of this.#live.all()) {
      live.idleSince = live.idle ? (live.idleSince ?? now) : undefined;
      if (live.closing !== undefined || live.finish || live.suspended) continue;
      if (live.admitted < live.attempt) {
        if (live.request.class !== "offline" && now - live.queuedAt >= tickMs) waiting++;
      } else if (live.idleSince !== undefined && now - live.idleSince >= idleMs) idle.push(live);
    }
    if (waiting === 0) return;
    idle.sort((a, b) => (a.idleSince ?? 0) - (b.idleSince ?? 0));
    for (const live of idle.slice(0, waiting)) this.#post.tellCancel(live, CANCEL.preempted);
  }

  #tick(): void {
    this.#post.retry();
    const now = this.#post.ctx.now();
    this.#makeIdleGiveWay(now);
    for (const live of this.#live.all()) {
      const { closeMs, stallMs } = this.options;
      const since = live.suspended ? live.idleSince : live.finish && live.heldSince;
      if (live.closing !== undefined && now - live.closingSince >= closeMs) this.#ending.closed(live);
      // While a decode lane has its KV, that lane counts the same time and ends it.
      else if (since !== undefined && now - since >= stallMs) {
        const reason = `The reader took nothing for ${stallMs} ms: read faster, or ask for fewer tokens.`;
        this.#ending.failed(live, "slow_reader", reason);
      }
    }
    if (this.#post.owing) this.#post.tickWithin(this.options.retryMs);
    else if (this.#live.size > 0) this.#post.tickWithin(this.options.tickMs);
  }
}
