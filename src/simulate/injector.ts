import { StreamServeError } from "../errors.js";
import type { Fault, FaultKind, Trigger } from "./plan.js";
import type { Clock } from "./reader.js";

/** What can be done to the actors from outside. */
export interface Victims {
  /** Ends the actor between two events, as a lost thread does; its supervisor restarts it. */
  kill(actor: string): void;
  /** The actor handles nothing for so long. */
  pause(actor: string, forMs: number): void;
  /** The actor's mailbox takes nothing for so long. */
  fill(actor: string, forMs: number): void;
}

/** Time that an actor has to come back after it was killed, in milliseconds: the longest restart delay and a margin. */
export const RECOVERY_MS = 2_500;

/** Brings a plan's faults about, and knows until when they excuse delays. */
export class Injector {
  readonly injected = new Map<FaultKind, number>();
  /** Until when what has happened may hold things up. */
  disturbedUntil = 0;
  readonly #messages = new Map<string, number>();
  readonly #waiting: { readonly fault: Fault; readonly when: Extract<Trigger, { kind: "message" }> }[] = [];
  readonly #slow: Extract<Fault, { kind: "slow" }>[] = [];
  readonly #failing: Extract<Fault, { kind: "step-fails" }>[] = [];
  readonly #steps = new Map<string, number>();

  constructor(
    faults: readonly Fault[],
    readonly victims: Victims,
    readonly clock: Clock,
    /** Told as a fault strikes. */
    readonly struck: (fault: Fault) => void,
  ) {
    for (const fault of faults) {
      if (fault.kind === "slow") this.#slow.push(fault);
      else if (fault.kind === "step-fails") this.#failing.push(fault);
      else if (fault.when.kind === "time") clock.after(fault.when.atMs, () => this.#strike(fault));
      else if (fault.when.kind === "message") this.#waiting.push({ fault, when: fault.when });
    }
    for (const fault of this.#slow) clock.after(fault.atMs, () => this.#strike(fault));
  }

  /** True while a fault that has struck may still hold things up. */
  get disturbed(): boolean {
    return this.clock.now() < this.disturbedUntil;
  }

  /** A message was delivered. */
  delivered(type: string): void {
    const count = (this.#messages.get(type) ?? 0) + 1;
    this.#messages.set(type, count);
    const due = this.#waiting.filter(({ when }) => when.type === type && when.nth === count);
    for (const one of due) {
      this.#waiting.splice(this.#waiting.indexOf(one), 1);
      this.#strike(one.fault);
    }
  }

  /** Factor on the time of a step that the lane starts now. */
  slowdown(lane: string): number {
    const now = this.clock.now();
    const active = this.#slow.filter((f) => f.actor === lane && now >= f.atMs && now < f.atMs + f.forMs);
    return active.reduce((factor, fault) => factor * fault.factor, 1);
  }

  /** The error that the step that the lane starts now ends with, if it is to fail. */
  failure(lane: string): Error | undefined {
    const nth = (this.#steps.get(lane) ?? 0) + 1;
    this.#steps.set(lane, nth);
    const fault = this.#failing.find((f) => f.actor === lane && f.nth === nth);
    if (!fault) return undefined;
    this.#strike(fault);
    return new StreamServeError("lane_failed", "The device lost the step.");
  }

  #strike(fault: Fault): void {
    const { kind } = fault;
    this.injected.set(kind, (this.injected.get(kind) ?? 0) + 1);
    const lasts = kind === "kill" ? RECOVERY_MS : kind === "step-fails" ? 0 : fault.forMs;
    this.disturbedUntil = Math.max(this.disturbedUntil, this.clock.now() + lasts);
    if (kind === "kill") this.victims.kill(fault.actor);
    else if (kind === "pause") this.victims.pause(fault.actor, fault.forMs);
    else if (kind === "full") this.victims.fill(fault.actor, fault.forMs);
    this.struck(fault);
  }
}
