import type { LineFigure, Mark } from "../../report/figure.js";
import { ascending, percentile } from "../../report/statistics.js";
import type { FaultsResult, PlannedPoint } from "./planner.js";
import { isGood } from "./results.js";
import type { Objectives, RequestOutcome } from "./serving.js";

/** Figures of one run over its time, with its faults marked, beside the same requests without faults. */

/** Bins of a run at most, and requests that a bin should have for its percentiles to say something. */
const MOST_BINS = 60;
const REQUESTS_A_BIN = 20;
const BINS_MS = [
  100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 60_000, 120_000, 300_000, 600_000, 3_600_000,
];

export function timeFigures(point: PlannedPoint, faults: FaultsResult, objectives: Objectives): LineFigure[] {
  const { requests } = point;
  const plain = faults.without?.requests ?? [];
  const marks = marksOf(faults);
  const endMs = requests.reduce((last, { atMs, totalMs }) => Math.max(last, atMs + totalMs), 0);
  const binMs = binOf(endMs, requests.length);
  const draw = (title: string, valueLabel: string, series: LineFigure["series"]): LineFigure => ({
    kind: "lines",
    title,
    valueLabel,
    xLabel: "seconds",
    logarithmic: false,
    series: series.filter(({ points }) => points.length > 0),
    xFrom: 0,
    marks,
  });
  const came = bins(requests, binMs, ({ atMs }) => atMs);
  const served = (some: readonly RequestOutcome[]) =>
    bins(
      some.filter((one) => isGood(one, objectives)),
      binMs,
      ({ atMs, totalMs }) => atMs + totalMs,
    );
  // The last bin has not its whole time.
  const perSecond = (filled: ReadonlyMap<number, readonly unknown[]>) =>
    Array.from({ length: Math.floor(endMs / binMs) }, (_, bin): [number, number] => [
      middleOf(bin, binMs),
      (1000 * (filled.get(bin)?.length ?? 0)) / binMs,
    ]);
  const over = (some: readonly RequestOutcome[], p: number, of: (request: RequestOutcome) => number) =>
    [...bins(some, binMs, ({ atMs }) => atMs)]
      .sort(([a], [b]) => a - b)
      .flatMap(([bin, inBin]) => {
        const values = ascending(inBin.map(of).filter(Number.isFinite));
        return values.length > 0 ? [[middleOf(bin, binMs), percentile(values, p)] as const] : [];
      });
  const quantiles = (title: string, of: (request: RequestOutcome) => number) =>
    draw(title, "milliseconds", [
      { name: "p50", points: over(requests, 50, of) },
      { name: "p90", points: over(requests, 90, of) },
      { name: "p99", points: over(requests, 99, of) },
      { name: "p99 without faults", points: over(plain, 99, of) },
    ]);
  return [
    draw("Requests served in time", "requests/s", [
      { name: "came", points: perSecond(came) },
      { name: "ended in time", points: perSecond(served(requests)) },
      { name: "ended in time without faults", points: plain.length > 0 ? perSecond(served(plain)) : [] },
    ]),
    quantiles("Time to first token, by when requests came", ({ ttftMs }) => ttftMs),
    quantiles("Time per output token, by when requests came", ({ tpotMs }) => tpotMs),
    quantiles("Longest silence after the first token, by when requests came", ({ stillMs }) => stillMs),
  ].filter(({ series }) => series.length > 0);
}

function binOf(endMs: number, requests: number): number {
  const least = Math.max(endMs / MOST_BINS, (REQUESTS_A_BIN * endMs) / Math.max(1, requests));
  return BINS_MS.find((ms) => ms >= least) ?? least;
}

function bins(
  requests: readonly RequestOutcome[],
  binMs: number,
  when: (request: RequestOutcome) => number,
): Map<number, RequestOutcome[]> {
  const filled = new Map<number, RequestOutcome[]>();
  for (const request of requests) {
    const bin = Math.floor(when(request) / binMs);
    const inBin = filled.get(bin);
    if (inBin) inBin.push(request);
    else filled.set(bin, [request]);
  }
  return filled;
}

/** In seconds. */
function middleOf(bin: number, binMs: number): number {
  return ((bin + 0.5) * binMs) / 1000;
}

function marksOf({ struck }: FaultsResult): Mark[] {
  return struck.flatMap(({ fault, strikes }) => {
    if (strikes.length === 0) return [];
    const from = Math.min(...strikes.map(({ fromMs }) => fromMs));
    const to = Math.max(...strikes.map(({ toMs }) => toMs));
    return [{ label: fault, from: from / 1000, to: to / 1000 }];
  });
}
