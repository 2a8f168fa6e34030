import type { Audited } from "./audit.js";
import { ANY_PAIR } from "./messages.js";

/** A request that has been admitted, and the KV blocks reserved for it. */
export interface Running extends Audited {
  readonly blocks: number;
  /** When it was admitted, in milliseconds. */
  readonly since: number;
  /** Reason of a cancel that has been passed on. */
  cancelled: number | undefined;
}

/** The requests in lanes. What is reserved is exactly the sum over them. */
export class Reservations {
  readonly running = new Map<number, Running>();
  #blocks = 0;

  constructor(readonly totalBlocks: number) {}

  get freeBlocks(): number {
    return this.totalBlocks - this.#blocks;
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** `auditFrom`: serial of the next audit. */
  add(request: number, attempt: number, blocks: number, since: number, auditFrom: number): void {
    this.#blocks += blocks;
    this.running.set(request, {
      request,
      attempt,
      blocks,
      since,
      pair: ANY_PAIR,
      cancelled: undefined,
      auditFrom,
      seenIn: 0,
      missedIn: 0,
    });
  }

  /** Gives a request's blocks back, once. */
  release(running: Running): void {
    if (this.running.get(running.request) !== running) return;
    this.running.delete(running.request);
    this.#blocks -= running.blocks;
  }
}
