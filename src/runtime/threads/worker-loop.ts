import { performance } from "node:perf_hooks";
import type { Message } from "../actor.js";
import { Doorbell } from "../doorbell.js";
import type { ThreadedActor } from "./threaded-actor.js";

/** Looks at the mailbox between two looks at the clock. */
const LOOKS = 32;
/** After so many looks in vain in a row, an actor sleeps at once for so many times: others need the core more. */
const VAIN_SPINS = 8;
const SPINLESS_RESTS = 64;

/** Drives one actor on a thread of its own, which it blocks. */
export class WorkerLoop<M extends Message> {
  private readonly bell: Doorbell;
  private readonly spinMs: number;
  private handled: number;
  private stopping = false;
  /** Spins in vain since the last that found something; above VAIN_SPINS it counts rests without a spin. */
  private vain = 0;

  constructor(private readonly actor: ThreadedActor<M>) {
    this.bell = new Doorbell(actor.setup.bell);
    this.spinMs = actor.setup.tuning.spinUs / 1000;
    this.handled = actor.setup.controls;
  }

  /** Runs a control call and counts it. */
  control<R>(call: () => R): R {
    try {
      return call();
    } finally {
      this.handled++;
    }
  }

  stop(): void {
    this.stopping = true;
  }

  /** Runs the actor until a control call comes in or the actor has stopped. */
  run(): "control" | "stopped" {
    const { actor } = this;
    const { status, core } = actor;
    status.state = "running";
    for (;;) {
      if (status.controls !== this.handled) return "control";
      if (actor.poll()) {
        if (core.jobFinished) actor.endJob();
      } else if (!this.stopping && actor.drain()) {
        // The hook may have sent, started a job or taken long: look again.
      } else if (core.working) {
        status.state = "collecting";
        actor.endJob();
        status.state = "running";
      } else if (this.stopping) {
        actor.end();
        status.state = "stopped";
        return "stopped";
      } else {
        this.rest();
      }
    }
  }

  private rest(): void {
    if (this.spin()) return;
    const { status, core } = this.actor;
    const wait = core.nextDueAt - this.actor.now();
    if (wait <= 0) return;
    status.state = "parked";
    this.bell.park(this.idle, wait);
    status.addWake();
    status.state = "running";
  }

  /** Looks for a little while; true once there is something. */
  private spin(): boolean {
    if (this.spinMs <= 0) return false;
    this.vain++;
    if (this.vain > VAIN_SPINS) {
      if (this.vain > VAIN_SPINS + SPINLESS_RESTS) this.vain = 0;
      return false;
    }
    const until = performance.now() + this.spinMs;
    do {
      for (let looks = 0; looks < LOOKS; looks++) {
        if (!this.idle()) {
          this.vain = 0;
          return true;
        }
      }
    } while (performance.now() < until);
    return false;
  }

  private readonly idle = (): boolean => this.actor.isIdle() && this.actor.status.controls === this.handled;
}
