import type { Behaviour, Deployment, Message } from "../actor.js";
import type { RunLimits, SimulationOptions } from "./options.js";
import type { VirtualScheduler } from "./virtual-scheduler.js";
import type { VirtualSlabs } from "./virtual-slabs.js";
import { VirtualSupervisor } from "./virtual-supervisor.js";

export type { RunLimits, SimulationOptions, VirtualFunctions } from "./options.js";

/**
 * A deployment run in one thread under a virtual clock: the actors of the threaded system, with deliveries,
 * interleavings and faults drawn from a seed.
 */
export class Simulation {
  private readonly supervisor: VirtualSupervisor;
  private readonly scheduler: VirtualScheduler;
  private events = 0;

  constructor(
    deployment: Deployment,
    private readonly options: SimulationOptions,
  ) {
    this.supervisor = new VirtualSupervisor(deployment, options);
    this.scheduler = this.supervisor.scheduler;
  }

  /** The virtual time, in milliseconds. */
  get now(): number {
    return this.scheduler.now;
  }

  /** Events so far. */
  get eventCount(): number {
    return this.events;
  }

  get deadLetters(): number {
    return this.supervisor.deadLetters;
  }

  get restarts(): number {
    return this.supervisor.restarts;
  }

  /** The slabs, to be checked for regions that nobody freed. */
  get slabs(): VirtualSlabs {
    return this.supervisor.slabs;
  }

  /** When the next event is due; Infinity if there is none. */
  get nextEventAt(): number {
    return this.scheduler.nextAt;
  }

  /** Runs the next event; false if there is none. */
  step(): boolean {
    if (!this.scheduler.step()) return false;
    this.events++;
    this.options.afterEvent?.(this);
    return true;
  }

  /** Runs until nothing is left to do or a limit is reached; returns the number of events. */
  run({ untilMs = Number.POSITIVE_INFINITY, events = Number.POSITIVE_INFINITY }: RunLimits = {}): number {
    let count = 0;
    while (count < events && this.scheduler.nextAt <= untilMs && this.step()) count++;
    if (count < events && untilMs !== Number.POSITIVE_INFINITY) this.scheduler.skipTo(untilMs);
    return count;
  }

  /** Calls `action` at a virtual time. */
  at(ms: number, action: () => void): void {
    this.scheduler.at(ms, action);
  }

  // What a check may look at.

  /** The live behaviour of an actor; undefined while it is dead. */
  behaviour(name: string): Behaviour<Message> | undefined {
    return this.supervisor.actor(name).life?.behaviour;
  }

  incarnation(name: string): number {
    return this.supervisor.actor(name).incarnation;
  }

  isWorking(name: string): boolean {
    return this.supervisor.actor(name).life?.core.working ?? false;
  }

  /** Unread messages from one actor to another. */
  mailbox(from: string, to: string): { readonly messages: number; readonly bytes: number } {
    const edge = this.supervisor.edge(from, to);
    return { messages: edge.length, bytes: edge.usedBytes };
  }

  // Faults.

  /**
   * Ends an actor where it is, as the death of its thread would: its mailbox is kept, its job's result lost. It is started
   * again `downMs` later at the soonest.
   */
  kill(name: string, downMs = 0): void {
    const actor = this.supervisor.actor(name);
    actor.downUntil = Math.max(actor.downUntil, this.now + downMs);
    if (actor.life !== undefined) this.supervisor.died(actor, undefined);
  }

  /** An actor takes no turn for so long. */
  pause(name: string, ms: number): void {
    const actor = this.supervisor.actor(name);
    actor.pausedUntil = Math.max(actor.pausedUntil, this.now + ms);
    this.scheduler.schedule(actor);
  }

  /** Multiplies the time of an actor's turns and of jobs that it starts from now on. */
  slow(name: string, factor: number): void {
    this.supervisor.actor(name).slowness = factor;
  }

  /** An edge's mailbox looks full for so long. */
  jam(from: string, to: string, ms: number): void {
    const edge = this.supervisor.edge(from, to);
    edge.jammedUntil = Math.max(edge.jammedUntil, this.now + ms);
    // A sender that waits on it is woken by its reader only while the reader has something to read.
    this.at(edge.jammedUntil, () => this.scheduler.wakeSender(edge));
  }
}
