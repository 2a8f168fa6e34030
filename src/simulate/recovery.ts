import type { Clock, SimulatedReader } from "./reader.js";

/** Measures how long running requests go without a token after an actor was killed. */
export class Recovery {
  worstMs = 0;
  /** When each request was struck first, of those not heard of since. */
  readonly #since = new Map<SimulatedReader, number>();

  constructor(
    readonly readers: readonly SimulatedReader[],
    readonly clock: Clock,
  ) {}

  /** An actor was killed: whoever takes tokens as they come, and had some, is watched. */
  killed(): void {
    for (const reader of this.readers) {
      const { plan } = reader;
      // Offline work waits for others besides.
      const eager = plan.reader.credit === Number.POSITIVE_INFINITY && plan.class === "interactive";
      if (!eager || reader.ended || reader.received === 0 || this.#since.has(reader)) continue;
      this.#since.set(reader, this.clock.now());
    }
  }

  /** A request has tokens, or has ended. */
  heard(reader: SimulatedReader): void {
    const since = this.#since.get(reader);
    if (since === undefined) return;
    this.#since.delete(reader);
    this.worstMs = Math.max(this.worstMs, this.clock.now() - since);
  }
}
