import type { Figure, LineFigure } from "../../report/figure.js";
import { ascending, percentile, type Summary } from "../../report/statistics.js";
import type { Table } from "../../report/table.js";
import { faultTables } from "./fault-report.js";
import type { PlannedPoint, PlanResult } from "./planner.js";
import type { PlannerSettings } from "./planner-settings.js";
import type { ServingResult } from "./results.js";
import type { RequestOutcome } from "./serving.js";
import { timeFigures } from "./time-figures.js";

/** What a plan's result looks like to people: tables and figures. */

const percent = (share: number) => `${(100 * share).toFixed(1)}%`;

export function planTables(plan: PlannerSettings, { points, found }: PlanResult): Table[] {
  const tables: Table[] = [];
  if (found.length > 0) tables.push(foundTable(plan, found));
  if (points.length === 1) tables.push(...pointTables(points[0]!));
  else
    tables.push(
      sweepTable(
        points,
        plan.faults.map(({ text }) => text),
      ),
    );
  return tables;
}

function foundTable({ sloShare, sloTtftMs, sloTpotMs }: PlannerSettings, found: PlanResult["found"]): Table {
  const promise = `${percent(sloShare)} of requests within ${sloTtftMs} ms to the first token and ${sloTpotMs} ms a token`;
  return {
    title: `Kept: ${promise}`,
    columns: ["pairs", "requests/s", "requests/s a pair"],
    rows: found.map(({ pairs, rate }) => [
      pairs ?? "none is enough",
      rate > 0 ? rate : "none is low enough",
      pairs === undefined || rate === 0 ? "-" : rate / pairs,
    ]),
  };
}

function pointTables(point: PlannedPoint): Table[] {
  const { result, bySet, faults } = point;
  const row = (name: string, { mean, p50, p90, p99, max }: Summary) => [name, mean, p50, p90, p99, max];
  const tables: Table[] = [
    {
      title: "Milliseconds of completed requests",
      columns: ["", "mean", "p50", "p90", "p99", "most"],
      rows: [
        row("queueing for admission", result.queuedMs),
        row("time to first token", result.ttftMs),
        row("time per output token", result.tpotMs),
        row("latency", result.latencyMs),
        ...(result.refusedMs.count > 0 ? [row("until a refusal", result.refusedMs)] : []),
      ],
    },
    { title: "", columns: ["the run", ""], rows: facts(result) },
  ];
  if (Object.keys(bySet).length > 0) tables.push(setTable(bySet));
  if (faults) tables.push(...faultTables(point, faults));
  return tables;
}

function facts(result: ServingResult): (readonly [string, string | number])[] {
  const refused = Object.entries(result.refused).map(([code, count]) => `${count} ${code}`);
  const lane = ({ lanes, utilisation, stepMs, rowsPerStep }: ServingResult["prefill"]) =>
    `${percent(utilisation)} of ${lanes}, ${stepMs.toFixed(1)} ms a step of ${rowsPerStep.toFixed(1)} rows`;
  return [
    ["requests", `${result.requests}, ${result.completed} completed`],
    ["refused", refused.join(", ") || "none"],
    ["within objectives", percent(result.attainment)],
    ["goodput, requests/s", result.goodputPerSecond],
    ["throughput, requests/s", result.requestsPerSecond],
    ["output tokens/s", result.outputTokensPerSecond],
    ["prompt and output tokens/s", result.totalTokensPerSecond],
    ["prefill lanes busy", lane(result.prefill)],
    ["decode lanes busy", lane(result.decode)],
    ["prompt tokens found in caches", percent(result.prefixHitRate)],
    ["drafts that held", percent(result.acceptance)],
    ["output tokens a row and step", result.tokensPerStep],
    ["hand-off, mean ms", result.handOffMs],
  ];
}

function setTable(bySet: PlannedPoint["bySet"]): Table {
  return {
    title: "By set: milliseconds",
    columns: ["", "requests", "within", "TTFT p50", "p99", "TPOT p50", "p99", "drafts held"],
    rows: Object.entries(bySet).map(([set, { requests, attainment, ttftMs, tpotMs, acceptance }]) => [
      set,
      requests,
      percent(attainment),
      ttftMs.p50,
      ttftMs.p99,
      tpotMs.p50,
      tpotMs.p99,
      percent(acceptance),
    ]),
  };
}

const SWEEP = [
  "within",
  "goodput/s",
  "tokens/s",
  "TTFT p50",
  "p90",
  "p99",
  "TPOT p50",
  "p90",
  "p99",
  "refused",
  "prefill",
  "decode",
] as const;

function sweepTable(points: readonly PlannedPoint[], faults: readonly string[]): Table {
  const each = faults.length > 0 ? `; in each run ${faults.join(", ")}` : "";
  return {
    title: `Milliseconds; lanes: share of time that they computed${each}`,
    columns: ["pairs", points[0]?.users === undefined ? "requests/s" : "users", ...SWEEP],
    rows: points.map(({ pairs, rate, users, result }) => [
      String(pairs),
      rate ?? users ?? "trace",
      percent(result.attainment),
      result.goodputPerSecond,
      result.outputTokensPerSecond,
      result.ttftMs.p50,
      result.ttftMs.p90,
      result.ttftMs.p99,
      result.tpotMs.p50,
      result.tpotMs.p90,
      result.tpotMs.p99,
      result.requests - result.completed,
      percent(result.prefill.utilisation),
      percent(result.decode.utilisation),
    ]),
  };
}

/** Of one run: how latencies are distributed. Of several: latency and goodput over the load, or over the pairs. */
export function planFigures(plan: PlannerSettings, { points }: PlanResult): Figure[] {
  if (points.length === 1) {
    const [point] = points as [PlannedPoint];
    const { sloTtftMs: ttftMs, sloTpotMs: tpotMs } = plan;
    const overTime = point.faults ? timeFigures(point, point.faults, { ttftMs, tpotMs }) : [];
    return [...distributions(point), ...overTime];
  }
  const overPairs = new Set(points.map(({ rate, users }) => rate ?? users)).size === 1;
  const groups = overPairs ? [undefined] : [...new Set(points.map(({ pairs }) => pairs))];
  const draw = (title: string, valueLabel: string, lines: readonly Line[]): LineFigure => ({
    kind: "lines",
    title,
    valueLabel,
    xLabel: overPairs ? "stream pairs" : points[0]?.users === undefined ? "requests a second" : "users",
    logarithmic: false,
    series: groups.flatMap((pairs) =>
      lines.map(({ name, of }) => ({
        name: groups.length > 1 ? `${name}, ${pairs} pairs` : name,
        points: points
          .filter((point) => pairs === undefined || point.pairs === pairs)
          .map(
            (point) =>
              [overPairs ? point.pairs : (point.rate ?? point.users ?? 0), of(point.result)] as const,
          )
          .filter(([, value]) => Number.isFinite(value)),
      })),
    ),
  });
  const { sloTtftMs, sloTpotMs } = plan;
  return [
    draw(`Served within ${sloTtftMs} ms and ${sloTpotMs} ms a token`, "requests/s", [
      { name: "goodput", of: (result) => result.goodputPerSecond },
      { name: "all served", of: (result) => result.requestsPerSecond },
    ]),
    draw(
      "Time to first token",
      "milliseconds",
      quantiles(({ ttftMs }) => ttftMs),
    ),
    draw(
      "Time per output token",
      "milliseconds",
      quantiles(({ tpotMs }) => tpotMs),
    ),
  ].filter(({ series }) => series.every((line) => line.points.length > 0));
}

interface Line {
  readonly name: string;
  readonly of: (result: ServingResult) => number;
}

function quantiles(of: (result: ServingResult) => Summary): Line[] {
  return (["p50", "p90", "p99"] as const).map((name) => ({ name, of: (result) => of(result)[name] }));
}

/** Points of a distribution's line. */
const STEPS = Array.from({ length: 100 }, (_, i) => i);

function distributions({ requests, faults }: PlannedPoint): Figure[] {
  const plain = faults?.without?.requests ?? [];
  const line = (title: string, of: (request: RequestOutcome) => number): LineFigure => {
    const curve = (some: readonly RequestOutcome[]) => {
      const sorted = ascending(some.map(of).filter(Number.isFinite));
      return sorted.length > 0 ? STEPS.map((p) => [p, percentile(sorted, p)] as const) : [];
    };
    const own = { name: faults ? "with faults" : title, points: curve(requests) };
    return {
      kind: "lines",
      title,
      valueLabel: "milliseconds",
      xLabel: "percent of completed requests that took no longer",
      logarithmic: false,
      series: plain.length > 0 ? [own, { name: "without", points: curve(plain) }] : [own],
    };
  };
  return [
    line("Time to first token", ({ ttftMs }) => ttftMs),
    line("Time per output token", ({ tpotMs }) => tpotMs),
  ].filter(({ series }) => series[0]!.points.length > 0);
}
