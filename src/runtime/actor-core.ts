import type {
  ActorRef,
  ActorSpec,
  AskFailure,
  Behaviour,
  Context,
  Job,
  Message,
  SlabAllocator,
  TimerId,
} from "./actor.js";
import type { Directory } from "./directory.js";
import { asError, RuntimeError } from "./runtime-error.js";
import type { SlabRef } from "./schema.js";
import { type Timer, Timers } from "./timers.js";

/** What a frame is to its receiver. */
export const KIND = { tell: 0, ask: 1, reply: 2 } as const;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** `gone`: the receiver has ended for good. */
export type SendOutcome = "sent" | "refused" | "gone";

export type LogLevel = "debug" | "info" | "warn" | "error";

/** What an actor needs of its host: a thread or the simulator. */
export interface ActorHost<M extends Message> {
  now(): number;
  send(to: ActorRef, message: M, kind: Kind, correlation: number, traceId: number): SendOutcome;
  /** A message that nobody took: a late reply. */
  deadLetter(): void;
  watch(ref: ActorRef): void;
  spawn(spec: ActorSpec): ActorRef;
  stop(ref: ActorRef): void;
  bytes(ref: SlabRef): Uint8Array;
  slab(): SlabAllocator;
  log(level: LogLevel, text: string, fields: Readonly<Record<string, unknown>>): void;
  trace(name: string, start: number, request: number, traceId: number, value: number): void;
  /** Something is to be done that no message announces: a timer, a job, a failed ask. */
  wake(): void;
}

interface PendingAsk<M> {
  readonly to: ActorRef;
  readonly then: (reply: M | AskFailure) => void;
  readonly deadline: Timer;
}

interface PendingJob {
  finished(): boolean;
  readonly virtualMs: number;
  leftMs(): number;
  /** Collects the result and hands it over. */
  finish(): void;
}

/** Asks of one incarnation are numbered within 24 bits; the 8 above tell a restarted actor's asks apart. */
const ASK_NUMBERS = 2 ** 24;

/**
 * An actor's turns and its context, the same on every host. The host calls one of the turn methods at a time
 * and treats what they throw as the actor's death.
 */
export class ActorCore<M extends Message> implements Context<M> {
  private readonly timers = new Timers();
  private readonly timersById = new Map<TimerId, Timer>();
  private readonly asks = new Map<number, PendingAsk<M>>();
  private readonly watched = new Set<ActorRef>();
  /** Turns owed that no message brings. */
  private readonly owed: (() => void)[] = [];
  private job: PendingJob | undefined;
  private nextTimer = 1;
  private nextAsk = 0;
  private asked = 0;
  sender: ActorRef | undefined;
  traceId = 0;

  constructor(
    readonly self: ActorRef,
    readonly incarnation: number,
    readonly behaviour: Behaviour<M>,
    private readonly directory: Directory,
    private readonly host: ActorHost<M>,
  ) {}

  // Turns, called by the host.

  start(): void {
    this.behaviour.started?.(this);
  }

  deliver(from: ActorRef, message: M, kind: Kind, correlation: number, traceId: number): void {
    this.sender = from;
    this.traceId = traceId;
    if (kind === KIND.reply) {
      const ask = this.settle(correlation);
      if (ask === undefined) this.host.deadLetter();
      else ask.then(message);
    } else {
      this.asked = kind === KIND.ask ? correlation : 0;
      this.behaviour.receive(message, this);
      this.asked = 0;
    }
    this.sender = undefined;
    this.traceId = 0;
  }

  /** Runs what is owed and the timers due; true if there was any. */
  runDue(now: number): boolean {
    let ran = false;
    for (let turns = this.owed.length; turns > 0; turns--) {
      ran = true;
      this.owed.shift()!();
    }
    for (let timer = this.timers.takeDue(now); timer !== undefined; timer = this.timers.takeDue(now)) {
      ran = true;
      timer.fire();
    }
    this.traceId = 0;
    return ran;
  }

  /** When `runDue` next has something to do; -Infinity if at once. */
  get nextDueAt(): number {
    return this.owed.length > 0 ? Number.NEGATIVE_INFINITY : this.timers.nextAt;
  }

  /** `ref` died. */
  notice(ref: ActorRef, restarting: boolean): void {
    for (const [number, ask] of [...this.asks]) {
      if (ask.to === ref) this.settle(number)?.then("terminated");
    }
    if (this.watched.has(ref)) this.behaviour.terminated?.(ref, restarting, this);
    if (!restarting) this.watched.delete(ref);
  }

  drained(): void {
    this.behaviour.drained?.(this);
  }

  get jobFinished(): boolean {
    return this.job?.finished() ?? false;
  }

  /** How long the job in flight takes on a virtual clock. */
  get jobVirtualMs(): number {
    return this.job?.virtualMs ?? 0;
  }

  /** How much longer the job in flight takes, whose virtual time is over. */
  get jobLeftMs(): number {
    return this.job?.leftMs() ?? 0;
  }

  /** Waits for the job in flight and hands its result over. */
  finishJob(): void {
    const job = this.job;
    this.job = undefined;
    job?.finish();
  }

  stopped(): void {
    this.behaviour.stopped?.(this);
  }

  // The context, called by the behaviour.

  ref(name: string): ActorRef {
    return this.directory.ref(name);
  }

  refs(role: string): readonly ActorRef[] {
    return this.directory.refs(role);
  }

  nameOf(ref: ActorRef): string {
    return this.directory.nameOf(ref);
  }

  now(): number {
    return this.host.now();
  }

  tell(to: ActorRef, message: M): boolean {
    return this.host.send(to, message, KIND.tell, 0, this.traceId) === "sent";
  }

  ask(to: ActorRef, message: M, timeoutMs: number, then: (reply: M | AskFailure) => void): void {
    this.nextAsk = (this.nextAsk + 1) % ASK_NUMBERS;
    const number = (this.incarnation & 0xff) * ASK_NUMBERS + this.nextAsk;
    const outcome = this.host.send(to, message, KIND.ask, number, this.traceId);
    if (outcome !== "sent") {
      this.owe(() => then(outcome === "gone" ? "terminated" : "refused"));
      return;
    }
    const expire = () => {
      this.asks.delete(number);
      then("timeout");
    };
    this.asks.set(number, { to, then, deadline: this.timers.add(this.now() + timeoutMs, expire) });
    this.host.wake();
  }

  reply(message: M): boolean {
    if (this.sender === undefined) {
      throw new RuntimeError("context_misused", "There is no message in hand to reply to.");
    }
    const { asked } = this;
    this.asked = 0;
    const kind = asked === 0 ? KIND.tell : KIND.reply;
    return this.host.send(this.sender, message, kind, asked, this.traceId) === "sent";
  }

  after(ms: number, message: M): TimerId {
    const id = this.nextTimer++ as TimerId;
    const fire = () => {
      this.timersById.delete(id);
      this.behaviour.receive(message, this);
    };
    this.timersById.set(id, this.timers.add(this.now() + ms, fire));
    this.host.wake();
    return id;
  }

  cancelTimer(id: TimerId): void {
    const timer = this.timersById.get(id);
    if (timer === undefined) return;
    this.timersById.delete(id);
    this.timers.remove(timer);
  }

  get working(): boolean {
    return this.job !== undefined;
  }

  work<R>(start: () => Job<R>, done: (result: R) => void, failed: (error: Error) => void): void {
    if (this.job !== undefined) {
      throw new RuntimeError("context_misused", "A job is in flight already; look at `working` first.");
    }
    let job: Job<R>;
    try {
      job = start();
    } catch (error) {
      this.owe(() => failed(asError(error)));
      return;
    }
    const finish = () => {
      let result: R;
      try {
        result = job.collect();
      } catch (error) {
        failed(asError(error));
        return;
      }
      done(result);
    };
    this.job = {
      finished: () => job.finished(),
      virtualMs: job.virtualMs ?? 0,
      leftMs: () => job.leftMs?.() ?? 0,
      finish,
    };
    this.host.wake();
  }

  watch(ref: ActorRef): void {
    this.watched.add(ref);
    this.host.watch(ref);
  }

  spawn(spec: ActorSpec): ActorRef {
    return this.host.spawn(spec);
  }

  stop(ref: ActorRef): void {
    this.host.stop(ref);
  }

  bytes(ref: SlabRef): Uint8Array {
    return this.host.bytes(ref);
  }

  slab(): SlabAllocator {
    return this.host.slab();
  }

  log(level: LogLevel, text: string, fields: Readonly<Record<string, unknown>> = {}): void {
    this.host.log(level, text, fields);
  }

  trace(name: string, startMs: number, request = 0, value = 0): void {
    this.host.trace(name, startMs, request, this.traceId, value);
  }

  private settle(number: number): PendingAsk<M> | undefined {
    const ask = this.asks.get(number);
    if (ask === undefined) return undefined;
    this.asks.delete(number);
    this.timers.remove(ask.deadline);
    return ask;
  }

  private owe(turn: () => void): void {
    this.owed.push(turn);
    this.host.wake();
  }
}
