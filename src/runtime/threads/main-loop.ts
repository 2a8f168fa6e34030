import type { ActorRef, Behaviour, Message } from "../actor.js";
import type { Codec } from "../codec.js";
import { createDoorbell, Doorbell } from "../doorbell.js";
import { asError } from "../runtime-error.js";
import type { Incarnation } from "./incarnation.js";
import type { ActorEvent, ActorSetup, Attachment, Notice } from "./setup.js";
import { ThreadedActor } from "./threaded-actor.js";

/** Rounds of polling before the event loop gets its turn: a flood of messages must not starve sockets. */
const ROUNDS = 8;
/** How often a job of a main-thread actor is looked at, in milliseconds. */
const JOB_POLL_MS = 1;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/**
 * Drives the actors of the main thread between its other work. They share one doorbell, awaited by
 * `Atomics.waitAsync`: at most one wait is pending, and `close` ends it, since one that is never notified
 * would never be freed.
 */
export class MainLoop {
  readonly bell = createDoorbell();
  private readonly doorbell = new Doorbell(this.bell);
  private readonly lives = new Map<ActorRef, MainIncarnation>();
  private scheduled = false;
  private running = false;
  private waiting = false;
  private closed = false;
  private timer: NodeJS.Timeout | undefined;
  /** When the timer fires, in milliseconds of `performance.now()`. */
  private timerDue = Number.POSITIVE_INFINITY;

  start(
    setup: ActorSetup,
    behaviour: Behaviour<Message>,
    codec: Codec,
    emit: (event: ActorEvent) => void,
  ): Incarnation {
    const actor = new ThreadedActor(setup, behaviour, codec, emit, this.wake);
    const life = new MainIncarnation(actor, emit, this.wake, () => this.lives.delete(setup.ref));
    this.lives.set(setup.ref, life);
    this.wake();
    return life;
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.doorbell.force();
  }

  /** Runs the actors in the event loop's next turn. */
  readonly wake = (): void => {
    if (this.scheduled || this.running || this.closed) return;
    this.scheduled = true;
    setImmediate(this.turn);
  };

  private readonly turn = (): void => {
    this.scheduled = false;
    if (this.closed) return;
    this.running = true;
    for (const life of [...this.lives.values()]) life.run();
    this.running = false;
    this.rest();
  };

  private rest(): void {
    let wait = Number.POSITIVE_INFINITY;
    for (const life of this.lives.values()) wait = Math.min(wait, life.waitMs);
    if (wait <= 0 || !this.listen()) {
      this.wake();
      return;
    }
    for (const life of this.lives.values()) life.park();
    this.arm(wait);
  }

  /** A turn in `wait` ms at the latest. A timer that is due before stays: it costs less than a new one every turn. */
  private arm(wait: number): void {
    const due = performance.now() + wait;
    if (this.timerDue <= due) return;
    clearTimeout(this.timer);
    this.timerDue = due;
    this.timer = setTimeout(this.onTimer, Math.min(Math.ceil(wait), LONGEST_TIMEOUT_MS));
  }

  private readonly onTimer = (): void => {
    this.timerDue = Number.POSITIVE_INFINITY;
    this.turn();
  };

  /** Sees to it that a ring leads to a turn; false if there is something to do already. */
  private listen(): boolean {
    const idle = () => {
      for (const life of this.lives.values()) if (!life.actor.isIdle()) return false;
      return true;
    };
    // A wait that is pending since an earlier turn has its flag up still, or has been rung and will wake.
    if (this.waiting) return idle();
    this.waiting = this.doorbell.parkAsync(idle, () => {
      this.waiting = false;
      if (!this.scheduled && !this.running) this.turn();
    });
    return this.waiting;
  }
}

class MainIncarnation implements Incarnation {
  readonly ended: Promise<Error | undefined>;
  private resolveEnded: (error: Error | undefined) => void = () => {};
  private started = false;
  private stopping = false;
  private parked = false;
  private over = false;

  constructor(
    readonly actor: ThreadedActor<Message>,
    private readonly emit: (event: ActorEvent) => void,
    private readonly wake: () => void,
    private readonly remove: () => void,
  ) {
    this.ended = new Promise((resolve) => {
      this.resolveEnded = resolve;
    });
  }

  /** One turn of the loop. What the behaviour throws ends this life. */
  run(): void {
    if (this.over) return;
    if (this.parked) this.actor.status.addWake();
    this.parked = false;
    this.actor.status.state = "running";
    try {
      this.work();
    } catch (error) {
      const failure = asError(error);
      this.end(failure);
      this.emit({ kind: "failed", error: failure });
    }
  }

  private work(): void {
    const { actor } = this;
    if (!this.started) {
      this.started = true;
      actor.start();
      this.emit({ kind: "ready" });
    }
    for (let round = 0; round < ROUNDS; round++) {
      if (actor.core.jobFinished) actor.finishJob();
      else if (!actor.poll() && (this.stopping || !actor.drain())) break;
    }
    if (this.stopping && !actor.core.working && actor.isIdle()) {
      actor.end();
      actor.status.state = "stopped";
      this.end(undefined);
      this.emit({ kind: "stopped" });
    }
  }

  /** Until when nothing is to be done here but for messages; 0 or less: go on at once. */
  get waitMs(): number {
    if (!this.actor.isIdle() || (this.actor.owesDrain && !this.stopping)) return 0;
    const due = this.actor.core.nextDueAt - this.actor.now();
    return this.actor.core.working ? Math.min(due, JOB_POLL_MS) : due;
  }

  park(): void {
    this.parked = true;
    this.actor.status.state = this.actor.core.working ? "collecting" : "parked";
  }

  async inspect(): Promise<Readonly<Record<string, unknown>>> {
    return this.actor.inspect();
  }

  stop(): void {
    this.stopping = true;
    this.wake();
  }

  attach(attachment: Attachment): void {
    this.actor.attach(attachment);
    this.wake();
  }

  notice(notice: Notice): void {
    this.actor.addNotice(notice);
    this.wake();
  }

  kill(): void {
    this.end(undefined);
  }

  private end(error: Error | undefined): void {
    this.over = true;
    this.actor.close();
    this.remove();
    this.resolveEnded(error);
  }
}
