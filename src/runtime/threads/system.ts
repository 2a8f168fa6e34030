import { EventEmitter } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { ActorRef, Behaviour, Deployment, Message } from "../actor.js";
import type { LogLevel } from "../actor-core.js";
import { RuntimeError } from "../runtime-error.js";
import type { Span } from "../trace-ring.js";
import type { ActorRecord } from "./actor-record.js";
import type { Tuning } from "./setup.js";
import type { ActorState } from "./status.js";
import { Supervisor } from "./supervisor.js";

export interface StartOptions<M extends Message = Message> {
  /**
   * Behaviours of main-thread actors that are live objects of the host program, by actor name. Such an object
   * is kept when its actor is restarted; `started` is called on it again, with a new context.
   */
  readonly behaviours?: Readonly<Record<string, Behaviour<M>>>;
  readonly tuning?: Partial<Tuning>;
  /** Write trace rings from the start. */
  readonly tracing?: boolean;
}

export interface StopOptions {
  /** How long actors may go on with what they have, in milliseconds; then they are ended. */
  readonly drainMs: number;
}

export interface ActorReport {
  readonly name: string;
  readonly ref: ActorRef;
  readonly thread: "worker" | "main";
  readonly state: ActorState;
  readonly incarnation: number;
  readonly received: number;
  /** Unread bytes of each edge to it, by sender. */
  readonly mailbox: Readonly<Record<string, number>>;
  /** Frames dropped on `drop-oldest` edges to it. */
  readonly dropped: number;
  /** What the behaviour says of itself; undefined if it did not answer in time. */
  readonly details: Readonly<Record<string, unknown>> | undefined;
}

export interface LogEntry {
  readonly actor: string;
  readonly level: LogLevel;
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface SystemEvents {
  /** An actor died and will not be started again. */
  failed: [{ readonly name: string; readonly error: Error }];
  restarted: [{ readonly name: string; readonly incarnation: number }];
  terminated: [{ readonly name: string; readonly restarting: boolean }];
  log: [LogEntry];
}

/** An actor that does not answer the control plane so long is reported without details. */
const INSPECT_MS = 1_000;
/** How often a draining system looks whether all is quiet, in milliseconds. */
const QUIET_POLL_MS = 2;
/** Long enough for an idle actor's thread to end by itself, in milliseconds. */
const LEAST_EXIT_MS = 1_000;

/** A running deployment: every actor on its thread. */
export class ActorSystem extends EventEmitter<SystemEvents> {
  private readonly supervisor: Supervisor;
  private readonly keepAlive: NodeJS.Timeout;
  private ending: Promise<void> | undefined;

  private constructor(deployment: Deployment, options: StartOptions) {
    super();
    this.supervisor = new Supervisor(deployment, options, {
      failed: (name, error) => this.emit("failed", { name, error }),
      restarted: (name, incarnation) => this.emit("restarted", { name, incarnation }),
      terminated: (name, restarting) => this.emit("terminated", { name, restarting }),
      log: (actor, level, text, fields) => this.emit("log", { actor, level, text, fields }),
    });
    // The main thread's wait for messages does not keep the process alive; a running system should.
    this.keepAlive = setInterval(() => {}, 2 ** 31 - 1);
  }

  /**
   * Starts all actors of a deployment and waits until each has run `started`. Throws `deployment_invalid` or
   * `edge_cycle`, or what the first actor to fail failed with; then nothing is left running.
   */
  static async start<M extends Message = Message>(
    deployment: Deployment,
    options: StartOptions<M> = {},
  ): Promise<ActorSystem> {
    const system = new ActorSystem(deployment, options as StartOptions);
    try {
      await system.supervisor.start();
    } catch (error) {
      await system.stop({ drainMs: 0 });
      throw error;
    }
    return system;
  }

  ref(name: string): ActorRef {
    return this.supervisor.directory.ref(name);
  }

  /** Milliseconds on the clock that all actors share. */
  now(): number {
    return this.supervisor.now();
  }

  /** Undeliverable messages so far. */
  get deadLetters(): number {
    return this.supervisor.countDeadLetters();
  }

  /** Restarts of actors so far. */
  get restarts(): number {
    return this.supervisor.restarts;
  }

  /** Ends an actor's thread at once, wherever it is; its supervisor treats that as a death. */
  async kill(name: string): Promise<void> {
    const { life } = this.supervisor.record(name);
    life?.kill();
    await life?.ended;
  }

  /** Lets an actor drain its mailbox and end, and starts it again, with new options if given. */
  async reload(name: string, options?: unknown): Promise<void> {
    const record = this.supervisor.record(name);
    const { life } = record;
    if (life === undefined || record.phase !== "running") {
      throw new RuntimeError("actor_failed", `"${name}" does not run; it can't be reloaded.`);
    }
    if (options !== undefined) record.spec = { ...record.spec, options };
    const restarted = this.whenRestarted(name);
    this.supervisor.stop(record, true);
    await restarted;
  }

  setTracing(on: boolean): void {
    this.supervisor.tracing = on;
    for (const { status } of this.supervisor.records.values()) status.tracing = on;
  }

  /** The spans that actors have written since the last call, each actor's in order. */
  traces(): Span[] {
    return [...this.supervisor.records.values()].flatMap(({ traces }) => traces.drain());
  }

  /** What every actor is doing; answers within a second or so even if some don't. */
  async inspect(): Promise<ActorReport[]> {
    return Promise.all([...this.supervisor.records.values()].map(report));
  }

  /**
   * Waits, at most `drainMs`, until all mailboxes are empty and all actors idle, then ends them. Actors still
   * busy then are terminated. Settles once every thread has ended.
   */
  stop(options: StopOptions = { drainMs: 5_000 }): Promise<void> {
    this.ending ??= this.end(options.drainMs);
    return this.ending;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  private async end(drainMs: number): Promise<void> {
    const { supervisor } = this;
    const records = [...supervisor.records.values()];
    const deadline = this.now() + drainMs;
    supervisor.quiesce();
    while (this.now() < deadline && !(await this.isQuiet(records))) await delay(QUIET_POLL_MS);
    // The main thread's actors end last: they hear what the others say in `stopped`.
    for (const thread of ["worker", "main"] as const) {
      const ending = [...supervisor.records.values()].filter(
        ({ spec }) => (spec.thread ?? "worker") === thread,
      );
      await this.endAll(ending, drainMs === 0 ? 0 : Math.max(deadline - this.now(), LEAST_EXIT_MS));
    }
    supervisor.main.close();
    clearInterval(this.keepAlive);
  }

  /** Stops actors, and kills those that have not ended in time. */
  private async endAll(records: readonly ActorRecord[], patienceMs: number): Promise<void> {
    for (const record of records) this.supervisor.stop(record);
    const ended = Promise.all(records.map(({ life }) => life?.ended));
    const patience = new AbortController();
    const late = delay(patienceMs, undefined, patience).catch(() => {});
    await Promise.race([ended, late]);
    patience.abort();
    for (const record of records) {
      record.status.halt();
      record.doorbell.force();
      record.life?.kill();
    }
    await ended;
  }

  /** True if no actor did anything between two looks at all of them. */
  private async isQuiet(records: readonly ActorRecord[]): Promise<boolean> {
    const living = records.filter(({ phase }) => phase !== "ended");
    const wakes = living.map(({ status }) => status.wakes);
    const idle = () =>
      living.every(
        ({ status, incoming }) => status.state === "parked" && incoming.every((edge) => edge.usedBytes === 0),
      );
    if (!idle()) return false;
    await delay(0);
    return idle() && living.every(({ status }, index) => status.wakes === wakes[index]);
  }

  private whenRestarted(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const restarted = (event: { readonly name: string }) => event.name === name && settle(resolve);
      const failed = (event: { readonly name: string; readonly error: Error }) =>
        event.name === name && settle(() => reject(event.error));
      const settle = (how: () => void) => {
        this.off("restarted", restarted);
        this.off("failed", failed);
        how();
      };
      this.on("restarted", restarted);
      this.on("failed", failed);
    });
  }
}

async function report(record: ActorRecord): Promise<ActorReport> {
  const { status, spec } = record;
  const patience = new AbortController();
  const late = delay(INSPECT_MS, undefined, patience).catch(() => undefined);
  const details = await Promise.race([record.life?.inspect(), late]);
  patience.abort();
  return {
    name: spec.name,
    ref: record.ref,
    thread: spec.thread ?? "worker",
    state: status.state,
    incarnation: record.incarnation,
    received: status.received,
    mailbox: Object.fromEntries(record.incoming.map((edge) => [edge.from.spec.name, edge.usedBytes])),
    dropped: record.incoming.reduce((sum, edge) => sum + edge.dropped, 0),
    details,
  };
}
