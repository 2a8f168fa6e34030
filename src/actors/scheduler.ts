import { blocksFor } from "../policy/admission.js";
import { chooseYielding } from "../policy/preemption.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { Admitting, type AdmittingOptions, type Refusal, type WaitingRequest } from "./admitting.js";
import { Audit } from "./audit.js";
import { DEADLINE_REASON, tellCancelled, tellFailed, tellLost } from "./endings.js";
import {
  ANY_PAIR,
  type AppMessage,
  CANCEL,
  DECODE,
  LOST,
  type MessageNamed,
  PREFILL,
  PROMISE,
} from "./messages.js";
import { Reservations, type Running } from "./reservations.js";

export interface SchedulerOptions {
  readonly pairs: number;
  /** Blocks of the KV pool. */
  readonly totalBlocks: number;
  readonly admitting: AdmittingOptions;
  /** How often lanes are asked what they hold, in milliseconds. */
  readonly auditMs: number;
}

type Ctx = Context<AppMessage>;

/** An audit without all answers is given up after so many ticks: a lane that died may have taken the question along. */
const MOST_AUDIT_TICKS = 10;

const NO_LANES = "The lanes, or the way to them, failed too often and were given up: restart the server.";

/**
 * StreamScheduler: who is admitted and when, and the life of every request until the gateway says that it has
 * ended. While interactive requests run it has the lanes hold offline work; offline work gives its KV back when an
 * interactive request would have to wait for blocks. It asks the lanes now and then what they hold, so that no
 * request is forgotten whatever dies.
 */
export class Scheduler implements Behaviour<AppMessage> {
  readonly #reservations: Reservations;
  readonly #admitting: Admitting;
  readonly #audit: Audit<Running>;
  /** Lanes that will never come back: bits 1 prefill, 2 decode. */
  readonly #gone: Uint8Array;
  readonly #lanes = new Map<ActorRef, { pair: number; role: number }>();
  #lost = 0;
  #preempted = 0;
  /** The lanes have been told to hold offline work. */
  #holds = false;
  /** Since when none of it got on, in milliseconds. */
  #heldSince = 0;
  #ticking = false;
  #ticksInAudit = 0;
  #ctx!: Ctx;
  #gateway!: ActorRef;
  #router!: ActorRef;

  constructor(readonly options: SchedulerOptions) {
    this.#reservations = new Reservations(options.totalBlocks);
    this.#admitting = new Admitting(options.admitting, this.#reservations);
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
      case "load":
        this.#admitting.load(message, ctx.now());
        return;
      case "began": {
        const running = this.#reservations.running.get(message.request);
        if (running?.attempt !== message.attempt) return;
        if (!running.begun) this.#judge(running, PROMISE.firstToken, message.at - running.prediction.at, ctx);
        this.#admitting.began(running, message.at);
        return;
      }
      case "grew": {
        const running = this.#reservations.running.get(message.request);
        const current = running?.attempt === message.attempt && message.generation === ctx.incarnation;
        if (running && current) this.#admitting.grew(running, message.tokens);
        return;
      }
      case "hello":
        if (message.incarnation === 0) return;
        // Whoever is up again may have died with requests in hand, and does not know what it was told.
        this.#tellHold(ctx);
        this.#ask(ctx);
        return;
      case "tick":
        this.#ticking = false;
        this.#pump(ctx);
        this.#releaseHeld(ctx);
        // Lanes answer between steps, which may take longer than a tick: a new question would void their answers.
        if (!this.#audit.underWay || ++this.#ticksInAudit >= MOST_AUDIT_TICKS) this.#ask(ctx);
        if (this.#queue.size + this.#reservations.running.size > 0) this.#startTicking(ctx);
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
    for (const waiting of this.#queue.clear()) {
      tellFailed(ctx, this.#gateway, waiting, "lane_failed", NO_LANES);
    }
    for (const running of [...this.#reservations.running.values()]) {
      this.#reservations.release(running);
      tellFailed(ctx, this.#gateway, running, "lane_failed", NO_LANES);
    }
  }

  inspect(): Readonly<Record<string, unknown>> {
    return {
      waiting: this.#queue.size,
      running: this.#reservations.running.size,
      reservedBlocks: this.#reservations.blocks,
      audits: this.#audit.serial,
      lost: this.#lost,
      preempted: this.#preempted,
      holds: this.#holds,
      firstTokenBias: this.#admitting.firstTokenBias.factor,
      tokenBias: this.#admitting.tokenBias.factor,
      tenants: this.#queue.shares(false).size + this.#queue.shares(true).size,
    };
  }

  get #queue(): Admitting["queue"] {
    return this.#admitting.queue;
  }

  #submit(message: MessageNamed<"submit">, ctx: Ctx): void {
    const { request, attempt } = message;
    const earlier = this.#reservations.running.get(request);
    if (earlier && earlier.attempt >= attempt) return;
    if (earlier) {
      // A newer attempt replaces one that should be gone: whoever still holds that is to drop it.
      this.#reservations.release(earlier);
      this.#admitting.settle(earlier, message.promptTokens - message.outputFrom);
      this.#passCancel(earlier, CANCEL.superseded, ctx);
    }
    this.#queue.remove(request);
    const waiting = this.#admitting.request(message, ctx.incarnation, ctx.now());
    const refusal = this.#refusal(waiting) ?? this.#enqueue(waiting, ctx);
    if (refusal) this.#refuse(waiting, refusal, ctx);
    this.#pump(ctx);
    this.#startTicking(ctx);
  }

  #refuse(waiting: WaitingRequest, { code, reason, retryAfterMs }: Refusal, ctx: Ctx): void {
    tellFailed(ctx, this.#gateway, waiting, code, reason, retryAfterMs);
  }

  /** Why a request can't be served however long it waits, or not in time. */
  #refusal(waiting: WaitingRequest): Refusal | undefined {
    const { journey, since, deadline, attempt } = waiting;
    const { totalBlocks } = this.options;
    const tokens = journey.outputFrom + journey.maxTokens;
    const blocks = blocksFor(tokens, this.options.admitting.blockTokens);
    if (blocks > totalBlocks) {
      const reason = `Prompt and output of up to ${tokens} tokens need ${blocks} KV blocks of ${totalBlocks}: ask for fewer tokens, or raise engine.kvTokens.`;
      return { code: "kv_exhausted", reason };
    }
    if (!this.#pairsLeft()) return { code: "lane_failed", reason: NO_LANES };
    if (deadline > 0 && deadline <= since) return { code: "deadline_exceeded", reason: DEADLINE_REASON };
    // Whoever was taken once has been promised an answer.
    return attempt > 0 ? undefined : this.#admitting.refusal(waiting);
  }

  #enqueue(waiting: WaitingRequest, ctx: Ctx): Refusal | undefined {
    if (this.#queue.add(waiting)) return undefined;
    const displaced = this.#queue.displace(waiting);
    if (!displaced) return this.#admitting.full(waiting);
    this.#refuse(displaced, this.#admitting.displaced(displaced), ctx);
    this.#queue.replace(waiting);
    return undefined;
  }

  #cancel(message: MessageNamed<"cancel">, ctx: Ctx): void {
    const running = this.#reservations.running.get(message.request);
    const waiting = this.#queue.remove(message.request);
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
    const { request, attempt } = message;
    this.#queue.remove(request);
    const running = this.#reservations.running.get(request);
    if (running && running.attempt <= attempt) {
      this.#reservations.release(running);
      this.#admitting.ended(running, message, ctx.now());
      if (message.tokenMs > 0) this.#judge(running, PROMISE.token, message.tokenMs, ctx);
    }
    this.#pump(ctx);
  }

  /** Tells the router whether a request got what its class is promised; what was interrupted says nothing of its pair. */
  #judge({ pair, offline, journey }: Running, of: number, ms: number, ctx: Ctx): void {
    const { ttftMs, tpotMs } = this.options.admitting.objectives[offline ? 1 : 0];
    const objectiveMs = of === PROMISE.token ? tpotMs : ttftMs;
    if (objectiveMs === 0 || pair === ANY_PAIR || journey.resumed === 1) return;
    ctx.tell(this.#router, { type: "judged", pair, of, objectiveMs, missed: ms > objectiveMs ? 1 : 0 });
  }

  /** Admits whoever fits, and has offline work give way to whoever does not. */
  #pump(ctx: Ctx): void {
    const now = ctx.now();
    if (this.#queue.size > 0) {
      for (const late of this.#queue.expired(now)) {
        tellFailed(ctx, this.#gateway, late, "deadline_exceeded", DEADLINE_REASON);
      }
      const fits = (waiting: WaitingRequest) => this.#mayStart(waiting, now);
      for (let due = this.#queue.offlineIsDue(now); ; due = this.#queue.offlineIsDue(now)) {
        const next = this.#queue.next(fits, now);
        if (!next) break;
        this.#admit(next, due, ctx);
      }
      this.#makeRoom(ctx);
    }
    if (this.#reservations.running.size === 0) this.#admitting.forecast.reset();
    this.#updateHold(ctx);
  }

  /** Offline requests start while no interactive one runs or waits, or when they are due. */
  #mayStart(waiting: WaitingRequest, now: number): boolean {
    if (!this.#admitting.fits(waiting)) return false;
    if (!waiting.offline || this.#queue.offlineIsDue(now)) return true;
    return this.#reservations.count(false) === 0 && this.#queue.waiting(false) === 0;
  }

  #admit(next: WaitingRequest, due: boolean, ctx: Ctx): void {
    const { request, attempt, blocks } = next;
    const now = ctx.now();
    // An offline request whose turn has come is served like an interactive one: it would be held otherwise.
    const offline = next.offline && !(due && this.#reservations.count(false) > 0);
    const journey = offline === next.offline ? next.journey : { ...next.journey, class: 0 };
    const running = this.#reservations.count(next.offline) + 1;
    const prediction = { ...next.prediction, tokenMs: this.#admitting.forecast.outputTokenMs(running) };
    this.#reservations.add({ ...next, offline, prediction }, now, this.#audit.serial + 1);
    this.#admitting.forecast.sent(journey.promptTokens, now);
    ctx.traceId = request;
    ctx.trace("queue", next.since, request, blocks);
    ctx.tell(this.#gateway, { type: "admitted", request, attempt, at: now });
    // Before the request itself, so that lanes make way for it at once.
    this.#updateHold(ctx);
    ctx.tell(this.#router, { ...journey, type: "route", cached: 0, dueAt: 0, keep: 0 });
  }

  /** Takes blocks and places of offline work for the interactive request that is next. */
  #makeRoom(ctx: Ctx): void {
    const next = this.#queue.first(false);
    if (!next || this.#admitting.fits(next)) return;
    const { running, freeBlocks } = this.#reservations;
    let blocks = next.blocks - freeBlocks;
    let places = running.size + 1 - this.options.admitting.maxRunning;
    const offline: Running[] = [];
    for (const one of running.values()) {
      if (one.cancelled === undefined) {
        if (one.offline) offline.push(one);
        continue;
      }
      // It is on its way out already.
      blocks -= one.blocks;
      places--;
    }
    if (blocks <= 0 && places <= 0) return;
    for (const one of chooseYielding(offline, blocks, places)) this.#preempt(one, ctx);
  }

  #preempt(running: Running, ctx: Ctx): void {
    this.#preempted++;
    running.cancelled = CANCEL.preempted;
    this.#passCancel(running, CANCEL.preempted, ctx);
  }

  /** Tells the lanes when offline work is to wait, and when it may go on. */
  #updateHold(ctx: Ctx): void {
    const both = this.#reservations.count(false) > 0 && this.#reservations.count(true) > 0;
    if (both === this.#holds) return;
    this.#holds = both;
    this.#heldSince = ctx.now();
    this.#tellHold(ctx);
  }

  /** Offline work that has been held for long comes back to the queue, where the oldest is due for its turn. */
  #releaseHeld(ctx: Ctx): void {
    const { offlinePatienceMs } = this.options.admitting.admission;
    if (!this.#holds || ctx.now() - this.#heldSince < offlinePatienceMs) return;
    this.#heldSince = ctx.now();
    for (const one of this.#reservations.running.values()) {
      if (!one.offline || one.cancelled !== undefined) continue;
      this.#preempt(one, ctx);
      return;
    }
  }

  #tellHold(ctx: Ctx): void {
    ctx.tell(this.#router, { type: "hold", generation: ctx.incarnation, on: this.#holds ? 1 : 0 });
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
