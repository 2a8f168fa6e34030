import { cpus } from "node:os";

/** Processor time that others take while we measure: what a load average, which looks back a minute, can't tell. */
export class Company {
  #elapsedMs = 0;
  #othersMs = 0;

  /** Counts what the machine computes besides this process until the function is called that it returns. */
  begin(): () => void {
    const beganMs = performance.now();
    const busyMs = machineBusyMs();
    const own = process.cpuUsage();
    return () => {
      const { user, system } = process.cpuUsage(own);
      this.#othersMs += machineBusyMs() - busyMs - (user + system) / 1000;
      this.#elapsedMs += performance.now() - beganMs;
    };
  }

  /** Mean share of one core that others had. The system counts in ticks of 10 ms: short runs say little. */
  get cores(): number {
    return this.#elapsedMs > 0 ? Math.max(0, this.#othersMs / this.#elapsedMs) : 0;
  }

  /** The same as a share of all processors: 0 to 1. */
  get share(): number {
    return this.cores / cpus().length;
  }
}

function machineBusyMs(): number {
  return cpus().reduce((sum, { times: { user, nice, sys, irq } }) => sum + user + nice + sys + irq, 0);
}
