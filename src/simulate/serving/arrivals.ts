import type { Random } from "../random.js";

/** How requests come, a second on average: the rate is apart, so that sweeps scale one and the same pattern. */
export type Arrivals =
  /** Memoryless. */
  | { readonly kind: "poisson" }
  /** Evenly spaced. */
  | { readonly kind: "constant" }
  /** Gaps of a gamma distribution with this coefficient of variation: 1 is Poisson, above it bursts. */
  | { readonly kind: "gamma"; readonly cv: number }
  /** Poisson while on, nothing while off; the mean over both is the rate. */
  | { readonly kind: "bursts"; readonly onSeconds: number; readonly offSeconds: number };

/** When `count` requests come, in milliseconds; the first after a first gap. */
export function arrivalTimes(arrivals: Arrivals, perSecond: number, count: number, random: Random): number[] {
  const gap = 1000 / perSecond;
  let at = 0;
  return Array.from({ length: count }, () => {
    at += gap * unitGap(arrivals, random);
    return arrivals.kind === "bursts" ? stretched(at, arrivals) : at;
  });
}

/** A gap of mean 1. */
function unitGap(arrivals: Arrivals, random: Random): number {
  if (arrivals.kind === "constant") return 1;
  if (arrivals.kind !== "gamma") return random.exponential(1);
  const shape = 1 / arrivals.cv ** 2;
  return gamma(shape, random) / shape;
}

/** From a clock that runs in bursts alone, faster by what the pauses take, to the wall's. */
function stretched(at: number, { onSeconds, offSeconds }: Arrivals & { readonly kind: "bursts" }): number {
  const period = 1000 * (onSeconds + offSeconds);
  const burst = Math.floor(at / period);
  return burst * period + ((at - burst * period) * onSeconds) / (onSeconds + offSeconds);
}

/** A gamma variate of scale 1 (Marsaglia and Tsang, 2000; below shape 1 by Stuart's power of a uniform). */
function gamma(shape: number, random: Random): number {
  if (shape < 1) return gamma(shape + 1, random) * (1 - random.unit()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(random);
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random.unit()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

/** A standard normal variate (Box and Muller). */
function normal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.unit())) * Math.cos(2 * Math.PI * random.unit());
}
