import type { BarFigure } from "#streamserve/report/figure.js";
import { median } from "#streamserve/report/statistics.js";
import { formatCell } from "#streamserve/report/table.js";
import type { Findings, Table } from "../report.js";
import { MEASURES, type Objective } from "./outcome.js";
import type { Part } from "./parts.js";
import type { Compared, Ratio } from "./rounds.js";

export interface Measured {
  /** "real engine" or "simulated A800 pairs". */
  readonly where: string;
  readonly compared: readonly Compared[];
  readonly objective: Objective;
}

export function findingsOf(
  settings: Record<string, unknown>,
  parts: readonly Part[],
  measured: readonly Measured[],
  notes: readonly string[],
): Findings {
  return {
    settings,
    tables: measured.map(tableOf),
    notes: [
      ...notes,
      "Each figure is followed by its ratio to the whole system's in the same round: median (least to most) over the rounds.",
      `Goodput: requests a second within ${measured
        .map(
          ({ where, objective }) => `TTFT ${objective.ttftMs} ms and TPOT ${objective.tpotMs} ms (${where})`,
        )
        .join("; ")}. Percentiles are over requests that were answered.`,
      "A fused pair stands for one device, any other for two: in the simulator there are twice as many fused ones.",
      ...parts.map(({ name, about }) => `${name}: ${about}.`),
    ],
    results: measured,
    figures: measured.flatMap((one) => parts.map(({ name }) => figureOf(one, name))),
  };
}

function tableOf({ where, compared }: Measured): Table {
  return {
    title: `Ablation, ${where}`,
    columns: ["", ...MEASURES.map(({ name }) => (name.startsWith("T") ? `${name}, ms` : name))],
    rows: compared.map(({ part, name, rounds, ratios }) => [
      `${part}: ${name}`,
      ...MEASURES.map(({ key }) => {
        const value = formatCell(median(rounds.map((round) => round[key])));
        return `${value} ${ratioText(ratios[key])}`;
      }),
    ]),
  };
}

function ratioText({ median, min, max }: Ratio): string {
  const two = (value: number) => (Number.isFinite(value) ? value.toFixed(2) : "-");
  return `x${two(median)} (${two(min)}-${two(max)})`;
}

/** Ratios to the whole system, every measure turned so that more is better. */
function figureOf({ where, compared }: Measured, part: string): BarFigure {
  const rivals = compared.filter((one) => one.part === part);
  return {
    kind: "bars",
    title: `${part}, ${where}`,
    valueLabel: "of the whole system's; more is better",
    groups: MEASURES.map(({ name }) => name),
    series: rivals.map(({ name, ratios }) => ({
      name,
      values: MEASURES.map(({ key, more }) => {
        const { median } = ratios[key];
        const value = more === "better" ? median : 1 / median;
        return Number.isFinite(value) ? value : null;
      }),
    })),
  };
}
