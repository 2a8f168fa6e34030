import type { Table } from "../../report/table.js";
import type { PhaseResult } from "./phases.js";
import type { FaultsResult, PlannedPoint } from "./planner.js";

/** What faults did, as tables: what happened, and what requests met before, during and after. */

const seconds = (ms: number) => (ms / 1000).toFixed(2);
const percent = (share: number) => (Number.isFinite(share) ? `${(100 * share).toFixed(1)}%` : "-");

export function faultTables({ result }: PlannedPoint, faults: FaultsResult): Table[] {
  return [happened(faults), phaseTable(result.virtualSeconds, faults)];
}

function happened({ struck, restarts, resumptions }: FaultsResult): Table {
  return {
    title: `What happened: actors started again ${restarts} times, requests sent again ${resumptions} times`,
    columns: ["fault", "actors", "from s", "over s"],
    rows: struck.map(({ fault, strikes }) => {
      if (strikes.length === 0) return [fault, "none: the run had ended", "-", "-"];
      const over = Math.max(...strikes.map(({ toMs }) => toMs));
      return [
        fault,
        strikes.length,
        seconds(Math.min(...strikes.map(({ fromMs }) => fromMs))),
        Number.isFinite(over) ? seconds(over) : "not in this run",
      ];
    }),
  };
}

function phaseTable(virtualSeconds: number, { phases, without }: FaultsResult): Table {
  const rows = phases.flatMap((phase, i) => {
    const plain = without?.phases[i];
    return [phaseRow(phase.name, phase), ...(plain ? [phaseRow("  without faults", plain)] : [])];
  });
  return {
    title:
      "Before, during and after: milliseconds. During: requests under way at some time of it; else those that came and went",
    columns: [
      "",
      "from s",
      "to s",
      "requests",
      "within",
      "goodput/s",
      "TTFT p50",
      "p99",
      "TPOT p50",
      "p99",
      "latency p99",
      "still at most",
    ],
    rows: rows.length > 0 ? rows : [["nothing struck", "0", virtualSeconds.toFixed(2)]],
  };
}

function phaseRow(name: string, phase: PhaseResult): (string | number)[] {
  return [
    name,
    seconds(phase.fromMs),
    seconds(phase.toMs),
    phase.requests,
    percent(phase.attainment),
    phase.goodputPerSecond,
    phase.ttftMs.p50,
    phase.ttftMs.p99,
    phase.tpotMs.p50,
    phase.tpotMs.p99,
    phase.latencyMs.p99,
    phase.stillMs,
  ];
}
