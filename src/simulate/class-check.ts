import type { SimulatedReader } from "./reader.js";
import { Violation } from "./violation.js";

/** Sees that offline work gives way: to be asked at every step, and told after every event. */
export class ClassCheck {
  /** Since when interactive requests have been in the lanes without a break, in milliseconds. */
  #since = Number.NaN;

  /** `untilMs`: until then no offline request can be due to go first in spite of interactive ones. */
  constructor(readonly untilMs: number) {}

  /** After every event: `open` are the requests that have not ended. */
  afterEvent(open: Iterable<SimulatedReader>, now: number): void {
    for (const reader of open) {
      if (reader.plan.class !== "interactive" || !reader.inLanes) continue;
      if (Number.isNaN(this.#since)) this.#since = now;
      return;
    }
    this.#since = Number.NaN;
  }

  /** A lane starts a step over these requests. `quietMs`: how long ago a time was, less what faults excuse. */
  stepped(
    lane: string,
    requests: readonly SimulatedReader[],
    now: number,
    quietMs: (since: number) => number,
    oneStepMs: number,
  ): Violation | undefined {
    if (now >= this.untilMs || !(quietMs(this.#since) > oneStepMs)) return undefined;
    const offline = requests.find(({ plan }) => plan.class === "offline");
    if (!offline) return undefined;
    const late = quietMs(this.#since).toFixed(1);
    return new Violation(
      "class",
      `${lane} steps offline request ${offline.number} ${late} ms after interactive work came`,
    );
  }
}
