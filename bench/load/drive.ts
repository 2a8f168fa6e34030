import { setTimeout as delay } from "node:timers/promises";
import type { Outcome } from "./measure.js";

export interface Drive {
  /** In the order the requests were due; undefined for those that an interrupt kept from starting. */
  readonly outcomes: readonly (Outcome | undefined)[];
  /** From the first request's due time to the last one's end. */
  readonly wallMs: number;
}

/**
 * Sends `count` requests, at most `concurrency` in flight. Without `arrivals` the next is due as soon as one
 * ends (closed loop). With them each is due at its offset whether or not the server keeps up, and its waiting
 * counts (open loop), so a slow server can't hide behind a slowed-down client.
 */
export async function drive(
  count: number,
  concurrency: number,
  arrivals: readonly number[] | undefined,
  send: (index: number, dueMs: number) => Promise<Outcome>,
  signal: AbortSignal,
): Promise<Drive> {
  const outcomes: (Outcome | undefined)[] = new Array<Outcome | undefined>(count).fill(undefined);
  const beganMs = performance.now();
  let next = 0;
  const sender = async () => {
    while (next < count && !signal.aborted) {
      const index = next++;
      const dueMs = arrivals === undefined ? performance.now() : beganMs + arrivals[index]!;
      const waitMs = dueMs - performance.now();
      if (waitMs > 0) await delay(waitMs, undefined, { signal }).catch(() => undefined);
      if (!signal.aborted) outcomes[index] = await send(index, dueMs);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, sender));
  return { outcomes, wallMs: performance.now() - beganMs };
}
