import { writeFileSync } from "node:fs";
import type { Figure } from "#streamserve/report/figure.js";
import { renderTable, type Table } from "#streamserve/report/table.js";
import { type Machine, readMachine, readRevision } from "./machine.js";

export type { Table };

/** What every command ends in: tables for people, the same and the raw results as JSON for programs. */
export interface Report {
  readonly command: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly revision: string;
  readonly machine: Machine;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly tables: readonly Table[];
  /** What a reader must know before trusting the tables. */
  readonly notes: readonly string[];
  readonly results: unknown;
  /** What `bench plot` draws. */
  readonly figures: readonly Figure[];
}

/** The parts of a report that differ between commands. */
export type Findings = Pick<Report, "settings" | "tables" | "notes" | "results" | "figures">;

/** Adds machine, revision and time. Call it before measuring ends up in the load average: at the start. */
export function beginReport(command: string): (findings: Findings) => Report {
  const facts = { command, at: new Date().toISOString(), revision: readRevision(), machine: readMachine() };
  const { load } = facts.machine;
  const company =
    load > QUIET_LOAD
      ? [
          `Load average was ${load} at the start: other programs were running, and these figures prove nothing.`,
        ]
      : [];
  return (findings) => ({ ...facts, ...findings, notes: [...company, ...findings.notes] });
}

/** One-minute load average of a machine that has nothing else to do. */
const QUIET_LOAD = 0.5;

/** Prints the report; with `jsonFile` also writes it there ("-": JSON alone, to standard output). */
export function publish(report: Report, jsonFile: string | undefined): void {
  const json = `${JSON.stringify(report, null, 2)}\n`;
  if (jsonFile === "-") {
    process.stdout.write(json);
    return;
  }
  process.stdout.write(renderReport(report));
  if (jsonFile !== undefined) writeFileSync(jsonFile, json);
}

export function renderReport(report: Report): string {
  const { machine } = report;
  const lines = [
    `streamserve bench ${report.command} at ${report.revision}, ${report.at}`,
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.system}, Node ${machine.node}, load ${machine.load}`,
    `instruction sets: ${machine.instructionSets.join(" ") || "unknown"}`,
  ];
  for (const table of report.tables) lines.push("", ...renderTable(table));
  if (report.notes.length > 0) lines.push("", ...report.notes.map((note) => `Note: ${note}`));
  return `${lines.join("\n")}\n`;
}
