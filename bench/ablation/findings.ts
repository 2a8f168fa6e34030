import type { BarFigure } from "#streamserve/report/figure.js";
import { median } from "#streamserve/report/statistics.js";
import { formatCell } from "#streamserve/report/table.js";
import type { Findings, Table } from "../report.js";
import { MEASURES, type Objective } from "./outcome.js";
import { type Part, WHOLE } from "./parts.js";
import type { Compared, Ratio } from "./rounds.js";

export interface Measured {
  /** "real engine" or "simulated A800 pairs". */
  readonly where: string;
  readonly compared: readonly Compared[];
  readonly objective: Objective;
  /** Requests a second that the whole system served in a closed loop, part by part and run by run: the real engine's loads are shares of it. */
  readonly capacities?: readonly number[] | undefined;
  /** Cores that other programs took meanwhile, as `capacities`. */
  readonly company?: readonly number[] | undefined;
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
      ...measured.flatMap(capacityNote),
      ...measured.flatMap(companyNote),
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

function capacityNote({ where, capacities = [] }: Measured): string[] {
  if (capacities.length === 0) return [];
  const each = capacities.map((capacity) => capacity.toFixed(1)).join(", ");
  return [
    `With 16 under way the ${where} served ${each} requests a second, part by part and run by run: loads are shares of that.`,
  ];
}

function companyNote({ company = [] }: Measured): string[] {
  if (company.length === 0) return [];
  const each = company.map((cores) => `${(cores * 100).toFixed(0)}%`).join(", ");
  return [`Meanwhile other programs took ${each} of a core, part by part and run by run.`];
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
  const rivals = compared.filter((one) => one.part === part && one.name !== WHOLE.name);
  return {
    kind: "bars",
    ratios: true,
    title: `${part}: ${where}`,
    valueLabel: "of the whole system's; below 1 is worse",
    groups: MEASURES.map(({ name }) => name),
    series: rivals.map(({ name, ratios }) => {
      const turned = MEASURES.map(({ key, more }) => turn(ratios[key], more === "better"));
      return {
        name,
        values: turned.map((ratio) => ratio?.median ?? null),
        spans: turned.map((ratio) => (ratio ? [ratio.min, ratio.max] : null)),
      };
    }),
  };
}

/** Undefined where there is nothing to draw on a logarithmic axis. */
function turn({ median, min, max }: Ratio, upright: boolean): Ratio | undefined {
  const ratio = upright ? { median, min, max } : { median: 1 / median, min: 1 / max, max: 1 / min };
  const drawable = Object.values(ratio).every((value) => Number.isFinite(value) && value > 0);
  return drawable ? ratio : undefined;
}
