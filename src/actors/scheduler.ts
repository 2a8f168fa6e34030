import type { ErrorCode } from "../errors.js";
import {
  type AdmissionLimits,
  AdmissionQueue,
  blocksFor,
  HoldingTime,
  type Waiting,
} from "../policy/admission.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { Audit } from "./audit.js";
import { DEADLINE_REASON, tellCancelled, tellFailed, tellLost } from "./endings.js";
import {
  type AppMessage,
  CANCEL,
  DECODE,
  type Journey,
  LOST,
  type MessageNamed,
  PREFILL,
} from "./messages.js";
import { Reservations, type Running } from "./reservations.js";

export interface SchedulerOptions {
  readonly pairs: number;
  readonly blockTokens: number;
  /** Blocks of the KV pool. */
  readonly totalBlocks: number;
  /** Requests in lanes, at most. */
  readonly maxRunning: number;
  readonly admission: AdmissionLimits;
  /** Reservations over which the time that KV is held is averaged. */
  readonly holdMemory: number;
  /** What a refused client is told while no rate is known, and the most it is told, in milliseconds. */
  readonly retryAfterMs: number;
  readonly mostRetryAfterMs: number;
  /** How often lanes are asked what they hold, in milliseconds. */
  readonly auditMs: number;
}

type Ctx = Context<AppMessage>;

interface WaitingRequest extends Waiting {
  readonly journey: Journey;
}

interface Refusal {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly retryAfterMs?: number;
}

/** An audit without all answers is given up after so many ticks: a lane that died may have taken the question along. */
const MOST_AUDIT_TICKS = 10;

const NO_LANES = "The lanes, or the way to them, failed too often and were given up: restart the server.";

/**
 * StreamScheduler: who is admitted and when, and the life of every request until the gateway says that it has
 * ended. It reserves KV blocks for prompt and output to its limit, so that what is admitted fits; and it asks
 * the lanes now and then what they hold, so that no request is forgotten whatever dies.
 */
export class Scheduler implements Behaviour<AppMessage> {
  readonly #waiting: AdmissionQueue<WaitingRequest>;
  readonly #reservations: Reservations;
  readonly #audit: Audit<Running>;
  readonly #holding: HoldingTime;
  /** Lanes that will never come back: bits 1 prefill, 2 decode. */
  readonly #gone: Uint8Array;
  readonly #lanes = new Map<ActorRef, { pair: number; role: number }>();
  #lost = 0;
  #ticking = false;
  #ticksInAudit = 0;
  #ctx!: Ctx;
  #gateway!: ActorRef;
  #router!: ActorRef;

  constructor(readonly options: SchedulerOptions) {
    this.#waiting = new AdmissionQueue(options.admission);
    this.#reservations = new Reservations(options.totalBlocks);
    this.#holding = new HoldingTime(options.holdMemory);
    this.#gone = new Uint8Array(options.pairs);
    this.#audit = new Audit(this.#reservations.running, this.#gone, {
      held: (running) => this.#held(running),
      lost: (running) => this.#loses(running),
    });
  }

  started(ctx: Ctx): void {
    this.#ctx = ctx;
    this.#gateway = ctx.ref("gateway");
    this.#router = ctx.ref("router");
    ctx.watch(this.#router);
    for (const [role, name] of [
      [PREFILL, "prefill"],
      [DECODE, "decode"],
    ] as const) {
      ctx.refs(name).forEach((ref, pair) => {
        this.#lanes.set(ref, { pair, role });
        ctx.watch(ref);
      });
    }
    if (ctx.incarnation > 0) ctx.tell(this.#router, { type: "reset", generation: ctx.incarnation });
    ctx.tell(this.#gateway, { type: "hello", incarnation: ctx.incarnation });
  }

  receive(message: AppMessage, ctx: Ctx): void {
    switch (message.type) {
      case "submit":
        this.#submit(message, ctx);
        return;
      case "cancel":
        this.#cancel(message, ctx);
        return;
      case "ended":
        this.#ended(message, ctx);
        return;
      case "routed": {
        const running = this.#reservations.running.get(message.request);
        const current = running?.attempt === message.attempt && message.generation === ctx.incarnation;
        if (running && current) running.pair = message.pair;
        return;
      }
      case "audited":
        if (message.generation === ctx.incarnation && this.#audit.answer(message)) this.#ask(ctx);
        this.#pump(ctx);
        return;
      case "hello":
        // Whoever is up again may have died with requests in hand.
        if (message.incarnation > 0) this.#ask(ctx);
        return;
      case "tick":
        this.#ticking = false;
        this.#pump(ctx);
        // Lanes answer between steps, which may take longer than a tick: a new question would void their answers.
        if (!this.#audit.underWay || ++this.#ticksInAudit >= MOST_AUDIT_TICKS) this.#ask(ctx);
        if (this.#waiting.size + this.#reservations.running.size > 0) this.#startTicking(ctx);
        return;
    }
  }

  terminated(ref: ActorRef, restarting: boolean, ctx: Ctx): void {
    if (restarting) return;
    const lane = this.#lanes.get(ref);
    // Nothing leads to the lanes but the router.
    if (!lane) this.#gone.fill(3);
    else {
      this.#gone[lane.pair]! |= lane.role === PREFILL ? 1 : 2;
      if (this.#audit.heardOf(lane.pair, lane.role)) this.#ask(ctx);
    }
    if (this.#pairsLeft()) return;
    for (const waiting of this.#waiting.clear()) {
      tellFailed(ctx, this.#gateway, waiting, "lane_failed", NO_LANES);
    }
    for (const running of [...this.#reservations.running.values()]) {
      this.#reservations.release(running);
      tellFailed(ctx, this.#gateway, running, "lane_failed", NO_LANES);
    }
  }

  inspect(): Readonly<Record<string, unknown>> {
    return {
      waiting: this.#waiting.size,
      running: this.#reservations.running.size,
      reservedBlocks: this.#reservations.blocks,
      audits: this.#audit.serial,
      lost: this.#lost,
    };
  }

  #submit(message: MessageNamed<"submit">, ctx: Ctx): void {
    const { request, attempt } = message;
    const earlier = this.#reservations.running.get(request);
    if (earlier && earlier.attempt >= attempt) return;
    if (earlier) {
      // A newer attempt replaces one that should be gone: whoever still holds that is to drop it.
      this.#reservations.release(earlier);
      this.#passCancel(earlier, CANCEL.superseded, ctx);
    }
    this.#waiting.remove(request);
    const waiting: WaitingRequest = {
      request,
      attempt,
      journey: { ...message, generation: ctx.incarnation },
      blocks: blocksFor(message.outputFrom + message.maxTokens, this.options.blockTokens),
      offline: message.class === 1,
      since: ctx.now(),
      deadline: message.deadline,
    };
    const refusal = this.#refusal(waiting) ?? this.#enqueue(waiting);
    if (refusal) {
      const { code, reason, retryAfterMs } = refusal;
      tellFailed(ctx, this.#gateway, message, code, reason, retryAfterMs);
      return;
    }
    this.#pump(ctx);
    this.#startTicking(ctx);
  }

  /** Why a request can't be served however long it waits, or not before its deadline. */
  #refusal({ blocks, journey, since, deadline, attempt, offline }: WaitingRequest): Refusal | undefined {
    const { totalBlocks } = this.options;
    if (blocks > totalBlocks) {
      const tokens = journey.outputFrom + journey.maxTokens;
      const reason = `Prompt and output of up to ${tokens} tokens need ${blocks} KV blocks of ${totalBlocks}: ask for fewer tokens, or raise engine.kvTokens.`;
      return { code: "kv_exhausted", reason };
    }
    if (!this.#pairsLeft()) return { code: "lane_failed", reason: NO_LANES };
    if (deadline === 0) return undefined;
    if (deadline <= since) return { code: "deadline_exceeded", reason: DEADLINE_REASON };
    const wait = this.#predictWait(blocks, offline);
    if (attempt > 0 || since + wait <= deadline) return undefined;
    const reason = `The wait is predicted at ${Math.ceil(wait)} ms, longer than the deadline allows: try again later.`;
    return { code: "overloaded", reason, retryAfterMs: this.#clampRetry(wait) };
  }

  #enqueue(waiting: WaitingRequest): Refusal | undefined {
    const wait = this.#predictWait(waiting.blocks, waiting.offline);
    // Whoever was admitted once has waited already.
    if (this.#waiting.add(waiting, waiting.attempt > 0)) return undefined;
    const reason = `${this.#waiting.size} requests are waiting already: try again later.`;
    return { code: "overloaded", reason, retryAfterMs: this.#clampRetry(wait) };
  }

  /** Predicted milliseconds until a newcomer is admitted; 0 when nothing is in its way. */
  #predictWait(blocks: number, offline: boolean): number {
    const missing = this.#waiting.blocksAhead(offline) + blocks - this.#reservations.freeBlocks;
    return this.#holding.predictMs(missing, this.#reservations.blocks, this.options.retryAfterMs);
  }

  #clampRetry(ms: number): number {
    return Math.min(this.options.mostRetryAfterMs, Math.max(this.options.retryAfterMs, Math.ceil(ms)));
  }

  #cancel(message: MessageNamed<"cancel">, ctx: Ctx): void {
    const running = this.#reservations.running.get(message.request);
    const waiting = this.#waiting.remove(message.request);
    if (waiting || !running || running.attempt > message.attempt) {
      tellCancelled(ctx, this.#gateway, message, message.reason);
      this.#pump(ctx);
      return;
    }
    running.cancelled = message.reason;
    this.#passCancel(running, message.reason, ctx);
  }

  #passCancel({ request, attempt, pair }: Running, reason: number, ctx: Ctx): void {
    ctx.tell(this.#router, { type: "cancel", request, attempt, generation: ctx.incarnation, pair, reason });
  }

  #ended(message: MessageNamed<"ended">, ctx: Ctx): void {
    this.#waiting.remove(message.request);
    const running = this.#reservations.running.get(message.request);
    if (running && running.attempt <= message.attempt) {
      this.#reservations.release(running);
      this.#holding.released(ctx.now() - running.since);
    }
    this.#pump(ctx);
  }

  /** Admits whoever fits. */
  #pump(ctx: Ctx): void {
    if (this.#waiting.size === 0) return;
    const now = ctx.now();
    for (const late of this.#waiting.expired(now)) {
      tellFailed(ctx, this.#gateway, late, "deadline_exceeded", DEADLINE_REASON);
    }
    while (this.#reservations.running.size < this.options.maxRunning) {
      const next = this.#waiting.next(this.#reservations.freeBlocks, now);
      if (!next) return;
      const { request, attempt, blocks, journey } = next;
      this.#reservations.add(request, attempt, blocks, now, this.#audit.serial + 1);
      ctx.traceId = request;
      ctx.trace("queue", next.since, request, blocks);
      ctx.tell(this.#gateway, { type: "admitted", request, attempt, at: now });
      ctx.tell(this.#router, { ...journey, type: "route" });
    }
  }

  #startTicking(ctx: Ctx): void {
    if (this.#ticking) return;
    this.#ticking = true;
    ctx.after(this.options.auditMs, { type: "tick" });
  }

  /** Asks all lanes what they hold, if they should hold anything. */
  #ask(ctx: Ctx): void {
    if (this.#reservations.running.size === 0) return;
    this.#ticksInAudit = 0;
    ctx.tell(this.#router, { type: "audit", generation: ctx.incarnation, serial: this.#audit.begin() });
    this.#startTicking(ctx);
  }

  /** An audit found it: the cancel, if there was one, may have died with whoever was to pass it on. */
  #held(running: Running): void {
    if (running.cancelled !== undefined) this.#passCancel(running, running.cancelled, this.#ctx);
  }

  #loses(running: Running): void {
    this.#reservations.release(running);
    this.#lost++;
    if (running.cancelled === undefined) tellLost(this.#ctx, this.#gateway, running, LOST.lane);
    else tellCancelled(this.#ctx, this.#gateway, running, running.cancelled);
  }

  #pairsLeft(): boolean {
    return this.#gone.includes(0);
  }
}

/** Builds the scheduler; it needs no resources. */
export function scheduler(options: SchedulerOptions): Behaviour<AppMessage> {
  return new Scheduler(options);
}
