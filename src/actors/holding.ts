import type { Context } from "../runtime/actor.js";
import type { AppMessage, Journey, MessageNamed } from "./messages.js";
import type { Outbox } from "./outbox.js";

/** A request in a lane. */
export interface Held {
  readonly journey: Journey;
  /** Set when it is to leave after the step in hand: what is to be said then. */
  leaving: (() => void) | undefined;
}

/**
 * What a lane holds, by request, and which of it is in the step in hand. A request that must leave while a step
 * computes it leaves when that step has ended: until then the device writes to its KV.
 */
export class Holding<H extends Held> {
  readonly #held = new Map<number, H>();
  #step: readonly H[] = [];
  #stepSince = 0;
  #generation = 0;
  /** Generation that had offline work held; -1: none. */
  #heldBy = -1;

  /** `release` gives a request's sequence back; `changed` is called when one comes or goes. */
  constructor(
    readonly release: (held: H) => void,
    readonly changed: () => void,
  ) {}

  get size(): number {
    return this.#held.size;
  }

  /** In order of arrival. */
  values(): IterableIterator<H> {
    return this.#held.values();
  }

  get(request: number): H | undefined {
    return this.#held.get(request);
  }

  has(held: H): boolean {
    return this.#held.get(held.journey.request) === held;
  }

  /** The scheduler's incarnation that this lane listens to. */
  get generation(): number {
    return this.#generation;
  }

  /** Adopts a message's generation; a newer scheduler's first word voids what the one before it sent. */
  advance(generation: number): void {
    if (generation <= this.#generation) return;
    this.#generation = generation;
    for (const held of this.#held.values()) this.leave(held, () => {});
  }

  /** True while offline work is to wait. A new scheduler begins without. */
  get holdsOffline(): boolean {
    return this.#heldBy === this.#generation;
  }

  holdOffline({ generation, on }: MessageNamed<"hold">): void {
    this.advance(generation);
    if (generation === this.#generation) this.#heldBy = on === 1 ? generation : -1;
  }

  /** False if what comes is of a scheduler, or an attempt, that is over; an older attempt held here leaves. */
  admits({ request, attempt, generation }: Journey): boolean {
    if (generation < this.#generation) return false;
    const older = this.#held.get(request);
    if (older && older.journey.attempt >= attempt) return false;
    if (older) this.leave(older, () => {});
    return true;
  }

  put(held: H): void {
    this.#held.set(held.journey.request, held);
    this.changed();
  }

  /** What a cancel is about: the attempt it names, or one before that. */
  cancelled({ request, attempt, generation }: MessageNamed<"cancel">): H | undefined {
    if (generation < this.#generation) return undefined;
    const held = this.#held.get(request);
    return held && held.journey.attempt <= attempt ? held : undefined;
  }

  /** Takes a request out without releasing its sequence: it has been handed on, or is released already. */
  forget(held: H): void {
    if (this.has(held)) this.#held.delete(held.journey.request);
    this.changed();
  }

  /** Takes a request out and releases its sequence, now or after the step it is in, and then says so. */
  leave(held: H, say: () => void): void {
    this.forget(held);
    if (this.#step.includes(held)) {
      held.leaving ??= say;
      return;
    }
    this.release(held);
    say();
  }

  /** How many requests the step in hand computes. */
  get inStep(): number {
    return this.#step.length;
  }

  /** How long the step in hand has taken at `now`, both in milliseconds; below 0 without one. */
  stepForMs(now: number): number {
    return this.#step.length === 0 ? -1 : Math.max(0, now - this.#stepSince);
  }

  beginStep(step: readonly H[], now: number): void {
    this.#step = step;
    this.#stepSince = now;
  }

  /** The requests of the step that has ended, in row order. */
  endStep(): readonly H[] {
    const step = this.#step;
    this.#step = [];
    return step;
  }

  /** Lets go of those of an ended step that were to leave; returns the others. */
  staying(step: readonly H[]): H[] {
    return step.filter((held) => {
      if (!held.leaving) return true;
      this.release(held);
      held.leaving();
      return false;
    });
  }

  /** Tells the scheduler all that is held, here and in the lane's `other` holding. */
  answer(
    ctx: Context<AppMessage>,
    scheduler: Outbox,
    { generation, serial }: MessageNamed<"audit">,
    role: number,
    pair: number,
    other?: { values(): Iterable<Held>; advance(generation: number): void },
  ): void {
    this.advance(generation);
    other?.advance(generation);
    const held: Held[] = [...this.#held.values(), ...(other?.values() ?? [])];
    scheduler.send(ctx, {
      type: "audited",
      generation,
      serial,
      role,
      pair,
      requests: Uint32Array.from(held, ({ journey }) => journey.request),
      attempts: Uint32Array.from(held, ({ journey }) => journey.attempt),
    });
  }
}
