import { performance } from "node:perf_hooks";

/** When the parts of a start were done, in milliseconds from the start of the process. */

const PREFIX = "streamserve start: ";

/** Notes that a part is done. A later start in the same process replaces it. */
export function partDone(part: string): void {
  performance.clearMarks(PREFIX + part);
  performance.mark(PREFIX + part);
}

/** The parts in the order they were done. */
export function startTimes(): readonly { readonly part: string; readonly ms: number }[] {
  return performance
    .getEntriesByType("mark")
    .filter(({ name }) => name.startsWith(PREFIX))
    .map(({ name, startTime }) => ({ part: name.slice(PREFIX.length), ms: startTime }));
}
