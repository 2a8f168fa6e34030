import { StreamServeError } from "../errors.js";
import type { Fault, FaultKind, Trigger } from "./plan.js";
import type { Clock } from "./reader.js";

/** What can be done to the actors from outside. */
export interface Victims {
  /** Ends the actor between two events, as a lost thread does; its supervisor restarts it, `downMs` later at the soonest. */
  kill(actor: string, downMs: number): void;
  /** The actor handles nothing for so long. */
  pause(actor: string, forMs: number): void;
  /** The actor's mailbox takes nothing for so long. */
  fill(actor: string, forMs: number): void;
}

/** Time that an actor has to come back after it was killed, in milliseconds: the longest restart delay and a margin. */
export const RECOVERY_MS = 2_500;

type Slow = Extract<Fault, { kind: "slow" }>;
type StepFails = Extract<Fault, { kind: "step-fails" }>;

/** Brings a plan's faults about, and knows until when they excuse delays. */
export class Injector {
  readonly injected = new Map<FaultKind, number>();
  /** Until when what has happened may hold things up. */
  disturbedUntil = 0;
  readonly #messages = new Map<string, number>();
  readonly #waiting: { readonly fault: Fault; readonly when: Extract<Trigger, { kind: "message" }> }[] = [];
  /** By lane: thousands may have some. */
  readonly #slow = new Map<string, Slow[]>();
  readonly #failing = new Map<string, { readonly fault: StepFails; steps: number }[]>();

  constructor(
    faults: readonly Fault[],
    readonly victims: Victims,
    readonly clock: Clock,
    /** Told as a fault strikes. */
    readonly struck: (fault: Fault) => void,
  ) {
    for (const fault of faults) {
      if (fault.kind === "slow") {
        listOf(this.#slow, fault.actor).push(fault);
        clock.after(fault.atMs, () => this.#strike(fault));
      } else if (fault.kind === "step-fails") listOf(this.#failing, fault.actor).push({ fault, steps: 0 });
      else if (fault.when.kind === "time") clock.after(fault.when.atMs, () => this.#strike(fault));
      else if (fault.when.kind === "message") this.#waiting.push({ fault, when: fault.when });
    }
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
    let slowdown = 1;
    for (const { atMs, forMs, factor } of this.#slow.get(lane) ?? []) {
      if (now >= atMs && now < atMs + forMs) slowdown *= factor;
    }
    return slowdown;
  }

  /** The error that the step that the lane starts now ends with, if it is to fail. */
  failure(lane: string): Error | undefined {
    const now = this.clock.now();
    let failing: StepFails | undefined;
    for (const one of this.#failing.get(lane) ?? []) {
      const { fault } = one;
      if (now >= (fault.afterMs ?? 0) && ++one.steps === fault.nth) failing ??= fault;
    }
    if (!failing) return undefined;
    this.#strike(failing);
    return new StreamServeError("lane_failed", "The device lost the step.");
  }

  #strike(fault: Fault): void {
    const { kind } = fault;
    this.injected.set(kind, (this.injected.get(kind) ?? 0) + 1);
    const lasts =
      kind === "kill" ? RECOVERY_MS + (fault.downMs ?? 0) : kind === "step-fails" ? 0 : fault.forMs;
    this.disturbedUntil = Math.max(this.disturbedUntil, this.clock.now() + lasts);
    if (kind === "kill") this.victims.kill(fault.actor, fault.downMs ?? 0);
    else if (kind === "pause") this.victims.pause(fault.actor, fault.forMs);
    else if (kind === "full") this.victims.fill(fault.actor, fault.forMs);
    this.struck(fault);
  }
}

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
