import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { resolveModel } from "#streamserve/model/resolve.js";
import { drawFigure } from "#streamserve/report/svg.js";
import { choice, wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { findingsOf, type Measured } from "./findings.js";
import { joinReports } from "./join.js";
import { PARTS, type Part } from "./parts.js";
import { compareReal } from "./real.js";
import { compareSimulated } from "./simulated.js";

interface AblationOptions {
  readonly model: string;
  readonly threads: number;
  readonly where: "both" | "real" | "simulated";
  readonly part: string;
  readonly rounds: number;
  readonly firstRound: number;
  readonly realRequests: number;
  readonly capacity?: number;
  readonly requests: number;
  readonly full?: boolean;
  readonly join?: readonly string[];
  readonly plots?: string;
  readonly json?: string;
}

const FULL = { rounds: 7, realRequests: 200, requests: 2000 };

export function addAblationCommand(program: Command): void {
  const names = PARTS.map(({ name }) => name);
  const command = program
    .command("ablation")
    .description(
      "each part in turn exchanged for what is usual in its place, on the real engine and simulated",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads; 0: one a core", wholeNumber(0, 1024), 0)
    .addOption(choice("--where <place>", "where to compare", ["both", "real", "simulated"]).default("both"))
    .addOption(choice("--part <name>", "one part, or all", ["all", ...names]).default("all"))
    .option("--rounds <n>", "rounds of alternating runs", wholeNumber(1, 100), 3)
    .option(
      "--first-round <n>",
      "where to go on with rounds that are joined later",
      wholeNumber(0, 10_000),
      0,
    )
    .option(
      "--real-requests <n>",
      "requests of a run at full load, real engine",
      wholeNumber(16, 100_000),
      60,
    )
    .option(
      "--capacity <n>",
      "requests a second that the real engine serves, found by an earlier piece",
      wholeNumber(1, 100_000),
    )
    .option("--requests <n>", "requests of a run at full load, simulated", wholeNumber(20, 1_000_000), 600)
    .option(
      "--full",
      `${FULL.rounds} rounds of ${FULL.realRequests} and ${FULL.requests} requests: about an hour`,
    )
    .option(
      "--join <reports...>",
      "measure nothing: put together what runs of single parts left with --json; rounds of a part that comes twice are added",
    )
    .option("--plots <prefix>", "draw the plots as SVG: path and beginning of the files' names");
  withJson(command).action(runAblation);
}

async function runAblation(given: AblationOptions): Promise<void> {
  const options = { ...given, ...(given.full ? FULL : {}) };
  const finish = beginReport("ablation");
  const asked = PARTS.filter(({ name }) => options.part === "all" || options.part === name);
  const joined = options.join && joinReports(options.join);
  const measured = joined?.measured ?? (await measure(options, asked));
  const parts = PARTS.filter(({ name }) =>
    measured.some(({ compared }) => compared.some(({ part }) => part === name)),
  );
  const settings = { ...options, json: undefined, plots: undefined };
  const report = finish(findingsOf(settings, parts, measured, joined?.notes ?? []));
  publish(report, options.json);
  if (options.plots === undefined) return;
  for (const [index, figure] of report.figures.entries()) {
    const file = `${options.plots}-${index + 1}.svg`;
    writeFileSync(file, drawFigure(figure));
    console.error(`${file}: ${figure.title}`);
  }
}

async function measure(options: AblationOptions, parts: readonly Part[]): Promise<Measured[]> {
  const progress = (text: string) => console.error(text);
  const measured: Measured[] = [];
  if (options.where !== "simulated") {
    const path = await resolveModel(options.model);
    measured.push({ where: "real engine", ...(await compareReal(path, parts, options, progress)) });
  }
  if (options.where !== "real") {
    measured.push({ where: "simulated A800 pairs", ...(await compareSimulated(parts, options, progress)) });
  }
  return measured;
}
