import { performance } from "node:perf_hooks";

/** The instant that a system's clock counts from, on the monotonic clock that all threads share. */
export function clockOrigin(): bigint {
  return process.hrtime.bigint();
}

/** Milliseconds since `origin`, cheaper to read than the shared clock itself. */
export function clockSince(origin: bigint): () => number {
  const offset = Number(process.hrtime.bigint() - origin) / 1e6 - performance.now();
  let latest = 0;
  return () => {
    const now = performance.now() + offset;
    if (now > latest) latest = now;
    return latest;
  };
}
