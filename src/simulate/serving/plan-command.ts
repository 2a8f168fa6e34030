import { statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { explain, MISUSED } from "../../cli/failure.js";
import { fileSettings, merged, textSettings } from "../../config/sources.js";
import { StreamServeError } from "../../errors.js";
import { drawFigure } from "../../report/svg.js";
import { renderTable } from "../../report/table.js";
import { planFigures, planTables } from "./plan-report.js";
import { type PlannedPoint, type PlanResult, simulatePlan } from "./planner.js";
import { checkPlannerSettings, type PlannerSettings } from "./planner-settings.js";

/** `npm run simulate -- plan`: what hardware would do for a workload. Exit status: 0, 1 a failure, 2 misuse. */

interface Flags extends Record<string, unknown> {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly fault?: readonly string[];
  readonly json?: string;
  readonly svg?: string;
}

export async function planServing(args: readonly string[]): Promise<void> {
  const command = planCommand().action((flags: Flags) => run(flags));
  try {
    await command.parseAsync([...args], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : MISUSED;
    else explain(error);
  }
}

/** The command with its options, for its own help and the simulator's. */
export function planCommand(): Command {
  return new Command("simulate plan")
    .description(
      "Serves a workload with the real actors on simulated hardware, under a virtual clock: latencies, goodput, capacity.",
    )
    .exitOverride()
    .showHelpAfterError("(add --help to see the options)")
    .optionsGroup("What serves:")
    .option("--hardware <name>", "a profile of config/hardware, or the path of one (default: a800-7b)")
    .option("--pairs <n>", "stream pairs; several to compare: 1,2,4 or 1..8")
    .option("--router <policy>", "flowguard, round-robin, random, least-loaded or prefix")
    .option("--speculation <how>", "adaptive, off, acceptance, or a number of drafts")
    .option("--admission <how>", "config: as the server has it; slo: promise the objectives; fifo: take all")
    .option("--lanes <how>", "disaggregated or fused (then a pair stands for one device)")
    .option(
      "--set <key=value>",
      "any key of the server's configuration, e.g. router.burden=2; repeatable",
      collectSetting,
    )
    .optionsGroup("What comes:")
    .option("--rate <r>", "requests a second over all pairs; several: 4,8,16 or 2..20:2")
    .option("--cv <c>", "coefficient of variation of the gaps: 1 Poisson (default), 0 even, more is bursts")
    .option("--bursts <on/off>", "seconds on and off; the mean over both is the rate")
    .option("--users <n>", "a closed loop in place of a rate")
    .option("--think-ms <ms>", "pause of a user between answer and next request (default: 0)")
    .option(
      "--trace <file>",
      "replay a trace in Mooncake's format (timestamp, input_length, output_length, hash_ids)",
    )
    .option("--trace-speed <f>", "how many times faster than recorded (default: 1)")
    .option("--trace-block-tokens <n>", "tokens in a block of the trace (default: 512)")
    .option(
      "--sets <name:weight,...>",
      "alpaca, gsm8k, humaneval, sum, a recorded file, or 600x120: prompt x output tokens",
    )
    .option("--max-tokens <n>", "output tokens that clients ask for, at most (default: 256)")
    .option("--seconds <s>", "virtual seconds that requests come for (default: 60)")
    .option("--requests <n>", "how many come, whatever the time")
    .option("--warm-up-seconds <s>", "of these, how many to leave out of the figures (default: 0)")
    .option("--seed <n>", "the same seed gives the same figures (default: 1)")
    .optionsGroup("What goes wrong:")
    .option(
      "--fault <kind:who@seconds>",
      "kill:decode.1@30, kill:pair.0@30..45 (down so long), slow:decode.1@20..40x2 (half as fast), pause:prefill.*@10..12, full:scheduler@10..11, step-fails:decode.0-3@30; repeatable",
      collect,
    )
    .optionsGroup("What is asked:")
    .option("--slo-ttft-ms <ms>", "objective for the first token; 0: none (default: 1000)")
    .option("--slo-tpot-ms <ms>", "objective for the mean time of each token after it; 0: none (default: 50)")
    .option("--slo-share <s>", "share of requests that must keep both (default: 0.99)")
    .option("--find <what>", "rate: the highest that keeps the objectives; pairs: the fewest for --rate")
    .optionsGroup("Where it goes:")
    .option("--config <file>", "YAML file with these options as keys (sloTtftMs: 500); flags count more")
    .option("--json <file>", 'the figures as JSON; "-": to standard output alone')
    .option("--svg <prefix>", "plots: PREFIX-1.svg and so on")
    .addHelpText(
      "after",
      `
Examples:
  simulate plan --pairs 2 --rate 12                          one run of two pairs of A800s
  simulate plan --pairs 1,2,4 --find rate                    what so many pairs can take
  simulate plan --rate 100 --find pairs --slo-ttft-ms 500    how many pairs that needs
  simulate plan --rate 2..20:2 --pairs 2 --svg sweep         latency over load
  simulate plan --hardware cpu-2-cores --users 8 --sets sum  this repository's CPU lanes
  simulate plan --pairs 4 --trace trace.jsonl --json out.json
  simulate plan --pairs 4 --rate 30 --fault kill:pair.1@30..45 --svg death
  simulate plan --rate 100 --find pairs --fault kill:pair.0@20..40    how many with one to spare`,
    );
}

function collectSetting(text: string, before?: readonly string[]): string[] {
  if (!/^[\w.]+=/.test(text)) throw new InvalidArgumentError("write it as key=value.");
  return collect(text, before);
}

function collect(text: string, before: readonly string[] = []): string[] {
  return [...before, text];
}

function run({ config, set = [], fault = [], json, svg, ...flags }: Flags): void {
  const startedAt = performance.now();
  const plan = planOf(config, flags, set, fault);
  // Before the simulation, which may take minutes.
  if (json !== undefined && json !== "-") checkDirectory("--json", json);
  if (svg !== undefined) checkDirectory("--svg", svg);
  const quiet = json === "-";
  const result = simulatePlan(plan, (point) => {
    if (!quiet) process.stderr.write(`${lineOf(point)}\n`);
  });
  const figures = planFigures(plan, result);
  if (json !== undefined) writeJson(json, plan, result, figures);
  if (svg !== undefined) {
    for (const [i, figure] of figures.entries()) writeFileSync(`${svg}-${i + 1}.svg`, drawFigure(figure));
  }
  if (quiet) return;
  for (const table of planTables(plan, result)) process.stdout.write(`${renderTable(table).join("\n")}\n\n`);
  const virtual = result.points.reduce((sum, point) => sum + point.result.virtualSeconds, 0);
  const seconds = (performance.now() - startedAt) / 1000;
  process.stdout.write(`${virtual.toFixed(0)} virtual seconds took ${seconds.toFixed(1)} s.\n`);
}

/** Throws `config_invalid` unless `file` can lie where it says. */
function checkDirectory(flag: string, file: string): void {
  const directory = dirname(file);
  if (!statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
    throw new StreamServeError("config_invalid", `There is no directory ${directory} for ${flag} ${file}.`);
  }
}

/** The file, then the flags on top. */
function planOf(
  file: string | undefined,
  flags: Record<string, unknown>,
  set: readonly string[],
  faults: readonly string[],
): PlannerSettings {
  const under = file === undefined ? undefined : fileSettings(file);
  const settings = textSettings(
    set.map((text) => {
      const at = text.indexOf("=");
      return [text.slice(0, at).split("."), text.slice(at + 1), "--set"] as const;
    }),
  );
  const over: Record<string, unknown> = Object.fromEntries(
    Object.entries(flags).map(([key, value]) => [key, numberOrText(String(value))]),
  );
  if (faults.length > 0) over.faults = faults;
  const values = merged(
    merged(under?.values ?? {}, over),
    set.length > 0 ? { settings: settings.values } : {},
  );
  const place = (key: string) => (key in over ? flagOf(key) : (under?.place([key]) ?? "the plan"));
  return checkPlannerSettings(values, place);
}

/** What looks like a number is meant as one. */
function numberOrText(text: string): string | number {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
}

/** Of many flags, one key. */
function flagOf(key: string): string {
  return key === "faults" ? "--fault" : `--${kebab(key)}`;
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function lineOf({ pairs, rate, users, result, kept }: PlannedPoint): string {
  const load = rate !== undefined ? `${rate} requests/s` : users !== undefined ? `${users} users` : "trace";
  const { ttftMs, tpotMs, attainment } = result;
  return `${pairs} pairs, ${load}: ${(100 * attainment).toFixed(1)}% within objectives${kept ? "" : " (too few)"}, p99 ${ttftMs.p99.toFixed(0)} ms, ${tpotMs.p99.toFixed(1)} ms a token`;
}

function writeJson(file: string, plan: PlannerSettings, result: PlanResult, figures: unknown): void {
  const points = result.points.map(withoutRequests);
  const text = `${JSON.stringify({ command: "simulate plan", plan, found: result.found, points, figures }, null, 2)}\n`;
  if (file === "-") process.stdout.write(text);
  else writeFileSync(file, text);
}

/** The figures alone: of each request there would be megabytes. */
function withoutRequests({ requests: _, faults, ...point }: PlannedPoint) {
  if (!faults) return point;
  const { without, ...rest } = faults;
  if (!without) return { ...point, faults: rest };
  const { requests: __, ...plain } = without;
  return { ...point, faults: { ...rest, without: plain } };
}
