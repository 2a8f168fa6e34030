import { cpus } from "node:os";

/**
 * Begins to count. What is returned tells which share of all processors' time programs other than this process have had
 * since: 0 to 1.
 */
export function watchOthers(): () => number {
  const from = counts();
  return () => {
    const to = counts();
    const others = to.busyMs - from.busyMs - (to.ownMs - from.ownMs);
    return Math.max(0, others) / Math.max(1, to.totalMs - from.totalMs);
  };
}

function counts(): { readonly busyMs: number; readonly totalMs: number; readonly ownMs: number } {
  let busyMs = 0;
  let totalMs = 0;
  for (const { times } of cpus()) {
    const { user, nice, sys, irq, idle } = times;
    busyMs += user + nice + sys + irq;
    totalMs += user + nice + sys + irq + idle;
  }
  const { user, system } = process.cpuUsage();
  return { busyMs, totalMs, ownMs: (user + system) / 1000 };
}
