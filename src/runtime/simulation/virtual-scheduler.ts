import { type Timer, Timers } from "../timers.js";
import type { SimulationOptions } from "./options.js";
import { Random } from "./random.js";
import type { VirtualActor } from "./virtual-actor.js";
import type { VirtualEdge } from "./virtual-edge.js";
import type { VirtualLife } from "./virtual-life.js";

const DELAY_MS = { least: 0.001, most: 0.05 };
const TURN_MS = 0.005;
/** Edges with something unread among which the next one is drawn, at most. */
const MOST_DRAWN = 64;

/** What becomes of an actor whose turn threw, or that has stopped as it was told. */
export interface TurnEnds {
  died(actor: VirtualActor, thrown: unknown): void;
  stopped(actor: VirtualActor): void;
}

/** The virtual clock: plans and runs the turns of actors, in an order drawn from the seed. */
export class VirtualScheduler {
  private readonly events = new Timers();
  private readonly random: Random;
  private clock = 0;

  constructor(
    private readonly options: Pick<SimulationOptions, "seed" | "delayMs" | "turnMs">,
    private readonly ends: TurnEnds,
  ) {
    this.random = new Random(options.seed);
  }

  get now(): number {
    return this.clock;
  }

  /** When the next event is due; Infinity if there is none. */
  get nextAt(): number {
    return this.events.nextAt;
  }

  /** Runs the next event; false if there is none. */
  step(): boolean {
    const event = this.events.takeDue(Number.POSITIVE_INFINITY);
    if (event === undefined) return false;
    this.clock = Math.max(this.clock, event.at);
    event.fire();
    return true;
  }

  /** Lets time pass in which nothing happens. */
  skipTo(ms: number): void {
    this.clock = Math.max(this.clock, ms);
  }

  at(ms: number, action: () => void): Timer {
    return this.events.add(Math.max(ms, this.clock), action);
  }

  cancel(event: Timer | undefined): void {
    if (event !== undefined) this.events.remove(event);
  }

  messageDelay(): number {
    const { least, most } = this.options.delayMs ?? DELAY_MS;
    return this.random.between(least, most);
  }

  /** Plans the actor's next turn. */
  schedule(actor: VirtualActor): void {
    const at = this.nextTurnAt(actor);
    if (actor.next !== undefined) {
      if (actor.nextFor <= at) return;
      this.events.remove(actor.next);
      actor.next = undefined;
    }
    if (at === Number.POSITIVE_INFINITY) return;
    actor.nextFor = at;
    const jitter = this.random.unit() * (this.options.turnMs ?? TURN_MS) * actor.slowness;
    actor.next = this.events.add(Math.max(at, this.clock) + jitter, () => this.takeTurn(actor));
  }

  private nextTurnAt(actor: VirtualActor): number {
    const { life } = actor;
    if (life === undefined || life.blocked) return Number.POSITIVE_INFINITY;
    let at = actor.phase === "ending" || life.active ? this.clock : Number.POSITIVE_INFINITY;
    if (actor.notices.length > 0) at = this.clock;
    at = Math.min(at, life.core.nextDueAt, life.jobEndsAt ?? Number.POSITIVE_INFINITY);
    // An actor whose mailbox ran empty while a job was in flight waits for that job alone.
    if (life.active || life.jobEndsAt === undefined) {
      for (const edge of actor.unread) {
        at = Math.min(at, edge.firstAt);
        // No sooner than now, however many more there are.
        if (at <= this.clock) break;
      }
    } else at = life.jobEndsAt;
    return Math.max(at, actor.pausedUntil);
  }

  private takeTurn(actor: VirtualActor): void {
    actor.next = undefined;
    const { life } = actor;
    if (life === undefined || life.blocked) return;
    if (actor.pausedUntil <= this.clock) this.attempt(actor, () => this.oneTurn(actor, life));
    this.schedule(actor);
  }

  /** The order of a thread's loop: the job's end, deaths, timers, messages, then the `drained` hook, then the wait. */
  private oneTurn(actor: VirtualActor, life: VirtualLife): void {
    const { core } = life;
    if (life.jobEndsAt !== undefined && life.jobEndsAt <= this.clock) {
      const leftMs = core.jobLeftMs;
      if (leftMs > 0) {
        life.jobEndsAt = this.clock + leftMs * actor.slowness;
        return;
      }
      life.active = true;
      life.jobEndsAt = undefined;
      life.turn(() => core.finishJob());
      return;
    }
    const notice = actor.notices[0];
    if (notice !== undefined) {
      life.active = true;
      const edge = actor.incoming.find(({ from }) => from.ref === notice.ref);
      if (edge !== undefined && notice.unread > 0 && edge.length > 0) {
        notice.unread--;
        this.deliver(life, edge);
        return;
      }
      actor.notices.shift();
      life.turn(() => core.notice(notice.ref, notice.restarting));
      return;
    }
    if (core.nextDueAt <= this.clock) {
      life.active = true;
      life.turn(() => core.runDue(this.clock));
      return;
    }
    const edge = this.nextEdge(actor);
    if (edge !== undefined) {
      life.active = true;
      this.deliver(life, edge);
    } else if (actor.phase === "ending") {
      life.active = false;
      if (core.working) return;
      life.turn(() => core.stopped());
      this.ends.stopped(actor);
    } else if (life.active) {
      life.active = false;
      life.turn(() => core.drained());
    }
  }

  /** One of the edges with a message to see, drawn at random; undefined if there is none. */
  private nextEdge(actor: VirtualActor): VirtualEdge | undefined {
    const { unread } = actor;
    // Thousands of lanes may report at once: one after another then, those that waited longest first.
    if (unread.size > MOST_DRAWN) {
      for (const edge of unread) if (edge.firstAt <= this.clock) return edge;
      return undefined;
    }
    const visible: VirtualEdge[] = [];
    for (const edge of unread) if (edge.firstAt <= this.clock) visible.push(edge);
    if (visible.length === 0) return undefined;
    // In the order of the deployment, so that what is drawn does not depend on who sent first.
    visible.sort((a, b) => a.order - b.order);
    return visible[this.random.below(visible.length)];
  }

  private deliver(life: VirtualLife, edge: VirtualEdge): void {
    const { message, kind, correlation, traceId } = edge.take();
    this.wakeSender(edge);
    life.turn(() => life.core.deliver(edge.from.ref, message, kind, correlation, traceId));
  }

  /** Lets a waiting sender go on once half of the mailbox is free, as rings do. */
  wakeSender(edge: VirtualEdge): void {
    if (!edge.senderWaits || edge.usedBytes > edge.spec.bytes / 2 || this.clock < edge.jammedUntil) return;
    edge.senderWaits = false;
    this.at(this.clock + this.messageDelay(), () => {
      edge.from.life?.unblock();
      this.schedule(edge.from);
    });
  }

  /** Runs what may be the death of an actor. */
  attempt(actor: VirtualActor, run: () => void): void {
    try {
      run();
    } catch (thrown) {
      this.ends.died(actor, thrown);
    }
  }
}
