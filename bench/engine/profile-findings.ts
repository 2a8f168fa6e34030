import type { OperationProfile } from "#streamserve/engine/native-engine.js";
import type { RooflineFigure } from "#streamserve/report/figure.js";
import type { MachineCeilings } from "../ceilings.js";
import type { Findings, Table } from "../report.js";
import { ceilingsTable } from "./findings.js";
import type { StepBreakdown } from "./profile.js";

/** Everything an operation reads and writes, once. */
export function bytesOf(operation: OperationProfile): number {
  return operation.weightBytes + operation.kvBytes + operation.activationBytes;
}

/** Time that an operation's multiply-accumulates take at the measured peaks, against the time it took. */
export function shareOfPeak(operation: OperationProfile, ceilings: MachineCeilings): number {
  const atPeak = operation.int8Macs / ceilings.int8 + operation.f32Macs / ceilings.f32;
  return (atPeak * 1000) / operation.ms;
}

export function profileFindings(
  breakdowns: readonly StepBreakdown[],
  ceilings: MachineCeilings,
): Omit<Findings, "settings"> {
  return {
    tables: [ceilingsTable(ceilings), ...breakdowns.map((breakdown) => stepTable(breakdown, ceilings))],
    notes: [
      "GB/s: weights, KV and activations, once a step and layer; % of bandwidth: of reading a set as large as the weights. What caches hold can be read faster.",
      "% of peak: int8 for quantised matrices, f32 for attention and matrices in floats.",
    ],
    results: { breakdowns, ceilings },
    figures: [roofline(breakdowns, ceilings)],
  };
}

function stepTable(breakdown: StepBreakdown, ceilings: MachineCeilings): Table {
  const { workload, operations, wallMs, waitMs, computeMs, averaged, steps } = breakdown;
  const share = (ms: number) => (ms * 100) / wallMs;
  const alone = (name: string, ms: number) => [
    name,
    ms,
    share(ms),
    Number.NaN,
    Number.NaN,
    Number.NaN,
    Number.NaN,
  ];
  return {
    title: `${workload}: a step, mean of the middle ${averaged} of ${steps}`,
    columns: ["", "ms", "% of step", "GB/s", "% of bandwidth", "GMAC/s", "% of peak"],
    rows: [
      ...operations.map((operation) => {
        const macs = operation.int8Macs + operation.f32Macs;
        const perSecond = (bytesOf(operation) * 1000) / operation.ms;
        return [
          operation.operation,
          operation.ms,
          share(operation.ms),
          perSecond / 1e9,
          (perSecond * 100) / ceilings.workingSet,
          macs > 0 ? macs / operation.ms / 1e6 : Number.NaN,
          macs > 0 ? shareOfPeak(operation, ceilings) * 100 : Number.NaN,
        ];
      }),
      alone("all of these: the compute time", computeMs),
      alone("waiting for a core", waitMs),
      alone("the calls", wallMs - computeMs - waitMs),
      alone("step", wallMs),
      productsRow(operations, wallMs, ceilings),
    ],
  };
}

/** How well products of quantised matrices use the int8 peak, taken together: what a step adds is not theirs. */
function productsRow(
  operations: readonly OperationProfile[],
  wallMs: number,
  ceilings: MachineCeilings,
): Table["rows"][number] {
  const products = operations.filter(({ int8Macs }) => int8Macs > 0);
  const ms = products.reduce((sum, product) => sum + product.ms, 0);
  const macs = products.reduce((sum, product) => sum + product.int8Macs, 0);
  return [
    "of it, products of quantised matrices",
    ms,
    (ms * 100) / wallMs,
    Number.NaN,
    Number.NaN,
    ms > 0 ? macs / ms / 1e6 : Number.NaN,
    ms > 0 ? (macs * 100_000) / ms / ceilings.int8 : Number.NaN,
  ];
}

function roofline(breakdowns: readonly StepBreakdown[], ceilings: MachineCeilings): RooflineFigure {
  const { instructionSet, threads, workingSet, mainMemory, workingSetBytes } = ceilings;
  return {
    kind: "roofline",
    title: `Roofline, ${instructionSet}, ${threads} ${threads === 1 ? "thread" : "threads"}`,
    valueLabel: "GMAC/s",
    xLabel: "multiply-accumulates per byte of weights, KV and activations",
    slopes: [
      {
        name: `${(workingSetBytes / 2 ** 20).toFixed(0)} MiB read again: ${(workingSet / 1e9).toFixed(1)} GB/s`,
        value: workingSet / 1e9,
      },
      { name: `main memory: ${(mainMemory / 1e9).toFixed(1)} GB/s`, value: mainMemory / 1e9 },
    ],
    levels: [
      { name: `int8: ${(ceilings.int8 / 1e9).toFixed(0)} GMAC/s`, value: ceilings.int8 / 1e9 },
      { name: `f32: ${(ceilings.f32 / 1e9).toFixed(0)} GMAC/s`, value: ceilings.f32 / 1e9 },
    ],
    series: breakdowns.map(({ workload, operations }) => ({
      name: workload,
      points: operations
        .filter(({ int8Macs, f32Macs }) => int8Macs + f32Macs > 0)
        .map((operation) => {
          const macs = operation.int8Macs + operation.f32Macs;
          return {
            label: operation.operation,
            x: macs / bytesOf(operation),
            y: macs / operation.ms / 1e6,
          };
        }),
    })),
  };
}
