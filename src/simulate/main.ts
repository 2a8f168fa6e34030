import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Piscina } from "piscina";
import { PLANTED_BUGS } from "./planted/index.js";
import { playScenario } from "./play.js";
import { planOf } from "./random-plan.js";
import { runPlan, TAIL } from "./run.js";
import { describeFailure, type RunResult } from "./run-result.js";
import { SCENARIOS } from "./scenarios/index.js";
import type { SeedJob } from "./seed-job.js";
import { planCommand, planServing } from "./serving/plan-command.js";
import { Summary } from "./summary.js";

/** `npm run simulate`: the door of the simulator. Exit status: 0 all is well, 1 a violation, 2 misuse. */

const FAULTS_HELP = `Or: runs the actors with faults injected, and checks invariants after every event. A seed replays exactly.

  npm run simulate -- --seed 42            one seed, with its outcome and trace hash
  npm run simulate -- --seeds 1..1000      many seeds, over worker threads
  npm run simulate -- --seeds 1..9 --requests 200   so many requests a seed, and a fault of every kind
  npm run simulate -- --scenario NAME      a named scenario; "all" plays every one
  npm run simulate -- --plant NAME         put a bug into the system and see it caught
  npm run simulate -- --list               the scenarios and the bugs that can be planted
  npm run simulate -- --seed 42 --tail 500 how many events to print before a violation (default: 60)
  npm run simulate -- --threads 2          worker threads for --seeds (default: one a core)

Without arguments it plays seeds 1..100. A violation prints the seed, the event and the last events; exit status 1.`;

const help = () => `The real scheduler, router, lanes and tuner on a simulated engine, under a virtual clock.

npm run simulate -- plan [options]

${planCommand().helpInformation().split("\n").slice(2).join("\n")}
${FAULTS_HELP}`;

/** Seeds a worker thread takes at a time: enough to make messages rare, few enough to spread the load. */
const SEEDS_A_JOB = 10;

/** Of a worker's heap, in MiB: messages die young, and with the default of 16 collecting them takes 8% of the time. */
const YOUNG_GENERATION_MB = 64;

const print = (line: string) => process.stdout.write(`${line}\n`);

/** Runs the command; sets the process's exit status. */
export async function simulate(args: readonly string[]): Promise<void> {
  if (args[0] === "plan") await planServing(args.slice(1));
  else process.exitCode = await command(args);
}

async function command(args: readonly string[]): Promise<number> {
  let options: ReturnType<typeof parse>;
  try {
    options = parse(args);
  } catch (error) {
    print(error instanceof Error ? error.message : String(error));
    print(`\n${FAULTS_HELP}`);
    return 2;
  }
  if (options.help) print(help());
  else if (options.list) list();
  else if (options.scenario !== undefined) return playScenarios(options.scenario);
  else if (options.plant !== undefined) return plantBug(options.plant);
  else if (options.seed !== undefined) return playSeed(options.seed, options.requests, options.tail);
  else return playSeeds(options.seeds, options.requests, options.threads);
  return 0;
}

function parse(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string" },
      seeds: { type: "string", default: "1..100" },
      scenario: { type: "string" },
      plant: { type: "string" },
      requests: { type: "string" },
      tail: { type: "string", default: String(TAIL) },
      threads: { type: "string", default: String(availableParallelism()) },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const [from, to, ...rest] = values.seeds.split("..");
  const range = { from: wholeNumber("--seeds", from), to: wholeNumber("--seeds", to ?? from) };
  if (rest.length > 0 || range.to < range.from)
    throw new Error(`--seeds takes a range like 1..1000, not "${values.seeds}".`);
  return {
    ...values,
    seed: values.seed === undefined ? undefined : wholeNumber("--seed", values.seed),
    seeds: range,
    requests:
      values.requests === undefined ? undefined : Math.max(1, wholeNumber("--requests", values.requests)),
    tail: Math.max(1, wholeNumber("--tail", values.tail)),
    threads: Math.min(64, Math.max(1, wholeNumber("--threads", values.threads))),
  };
}

function wholeNumber(option: string, text: string | undefined): number {
  const value = Number(text);
  if (!text || !Number.isSafeInteger(value) || value < 0) {
    throw new Error(`${option} takes whole numbers from 0, not "${text ?? ""}".`);
  }
  return value;
}

function list(): void {
  listScenarios();
  print("\nBugs to plant:");
  const width = Math.max(...PLANTED_BUGS.map(({ name }) => name.length));
  for (const { name, about } of PLANTED_BUGS) print(`${name.padEnd(width)}  ${about}`);
}

function listScenarios(): void {
  const width = Math.max(...SCENARIOS.map(({ name }) => name.length));
  for (const { name, about, hazard, elsewhere } of SCENARIOS) {
    print(`${name.padEnd(width)}  ${about}`);
    if (hazard) print(`${" ".repeat(width)}    hazard: ${hazard}`);
    if (elsewhere) print(`${" ".repeat(width)}    not shown here: ${elsewhere}`);
  }
}

/** A bug that is caught is a violation like any other: exit status 1. */
function plantBug(name: string): number {
  const bug = PLANTED_BUGS.find((planted) => planted.name === name);
  if (!bug) {
    print(`There is no bug "${name}"; --list names them.`);
    return 2;
  }
  const result = runPlan(bug.plan, bug.tampering());
  print(describeFailure(result));
  return result.failure ? 1 : 0;
}

function playScenarios(name: string): number {
  const chosen = name === "all" ? SCENARIOS : SCENARIOS.filter((scenario) => scenario.name === name);
  if (chosen.length === 0) {
    print(`There is no scenario "${name}"; --list names them.`);
    return 2;
  }
  let failed = 0;
  for (const scenario of chosen) {
    const { results, wrong } = playScenario(scenario);
    print(`${wrong ? "FAILED" : "ok    "}  ${scenario.name}: ${scenario.about}`);
    if (chosen.length === 1) printRuns(results);
    if (!wrong) continue;
    failed++;
    print(wrong);
  }
  return failed > 0 ? 1 : 0;
}

function playSeed(seed: number, requests: number | undefined, tail: number): number {
  const result = runPlan(planOf(seed, requests), {}, tail);
  printRuns([result]);
  if (!result.failure) return 0;
  print(describeFailure(result));
  return 1;
}

function printRuns(results: readonly RunResult[]): void {
  for (const { name, hash, events } of results) print(`${name}: ${events} turns, trace hash ${hash}`);
  const summary = new Summary();
  for (const result of results) summary.add(result);
  for (const line of summary.lines()) print(line);
}

async function playSeeds(
  { from, to }: { from: number; to: number },
  requests: number | undefined,
  threads: number,
): Promise<number> {
  const startedAt = performance.now();
  const summary = new Summary();
  const filename = new URL("./seed-job.js", import.meta.url).href;
  const pool = new Piscina<SeedJob, RunResult[]>({
    filename,
    minThreads: threads,
    maxThreads: threads,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  try {
    const jobs: Promise<void>[] = [];
    for (let first = from; first <= to; first += SEEDS_A_JOB) {
      const job = pool.run({ from: first, to: Math.min(to, first + SEEDS_A_JOB - 1), requests });
      jobs.push(job.then((results) => results.forEach(summary.add, summary)));
    }
    await Promise.all(jobs);
  } finally {
    await pool.destroy();
  }
  for (const line of summary.lines()) print(line);
  print(`took        ${((performance.now() - startedAt) / 1000).toFixed(1)} s on ${threads} threads`);
  // The lowest seed, so that the same range names the same one every time.
  const [first] = summary.failures.sort((a, b) => a.seed - b.seed);
  if (!first) return 0;
  print(`\nseeds with a violation: ${summary.failures.map(({ seed }) => seed).join(", ")}; the first:`);
  print(describeFailure(first));
  return 1;
}
