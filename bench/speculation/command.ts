import type { Command } from "commander";
import { readAnswers } from "#streamserve/actors/read-answers.js";
import { configSchema } from "#streamserve/config/schema.js";
import { answersOf, resolveModel } from "#streamserve/model/resolve.js";
import { openTextCodec } from "#streamserve/model/text-codec.js";
import { knownAnswers } from "#streamserve/policy/known-answers.js";
import type { Successors } from "#streamserve/policy/successors.js";
import { BenchError } from "../bench-error.js";
import { DATASETS, type DatasetName, readDataset } from "../load/dataset.js";
import { choice, wholeNumber, wholeNumbers, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { type Adapting, adaptingOf } from "./adapting.js";
import { type Cell, measureCell } from "./cell.js";
import { findingsOf } from "./findings.js";
import { type House, openStreet, type Without } from "./houses.js";
import { idealOf } from "./ideal.js";
import type { SetResult, SpeculationOptions } from "./results.js";
import { measureSteps } from "./step-times.js";
import { prefillAll, runStreams } from "./streams.js";

/** Prompts of a set: their KV fits the pool. */
const PROMPTS = 16;
const MAX_TOKENS = 128;
const FULL = { rounds: 5, tokens: 600 };
const WARM_UP = { streams: 4, maxTokens: MAX_TOKENS, tokens: 600 };
/** A change of load back and forth: streams, and output tokens of each phase a stream. */
const CHANGE = { few: 1, many: 8, tokens: 160 };

export function addSpeculationCommand(program: Command): void {
  const command = program
    .command("speculation")
    .description(
      "SpecuStream against fixed draft depths, alternating, through the actors: goodput in every cell of set x load",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads; 0: one a core", wholeNumber(0, 1024), 0)
    .addOption(choice("--dataset <name>", "one set, or all", ["all", ...DATASETS]).default("all"))
    .option("--loads <list>", "streams under way", wholeNumbers(1, 64), [1, 2, 4, 8, 16])
    .option(
      "--depths <list>",
      "fixed depths to compare with; 0 is always among them",
      wholeNumbers(0, 16),
      [2, 4, 8],
    )
    .option(
      "--draft-model <name>",
      "a draft model for SpecuStream, which is compared with itself without it too",
    )
    .option("--without-answers", "SpecuStream without known answers too, to compare with")
    .option("--rounds <n>", "rounds of alternating runs", wholeNumber(1, 100), 1)
    .option(
      "--tokens <n>",
      "output tokens of a run at one stream; more streams, more tokens",
      wholeNumber(64, 100_000),
      200,
    )
    .option("--full", `${FULL.rounds} rounds of ${FULL.tokens} tokens: some 20 minutes`);
  withJson(command).action(runSpeculation);
}

async function runSpeculation(given: SpeculationOptions): Promise<void> {
  const options = { ...given, ...(given.full ? FULL : {}) };
  const finish = beginReport("speculation");
  const path = await resolveModel(options.model);
  const draftPath = options.draftModel === undefined ? undefined : await resolveModel(options.draftModel);
  const stepMs = await measureSteps(path, options.threads);
  const depths = [0, ...options.depths.filter((depth) => depth > 0)];
  const codec = await openTextCodec(path);
  const without: Without[] = [];
  if (draftPath !== undefined) without.push("no draft model");
  if (options.withoutAnswers) without.push("no known answers");
  const answers = answersOf(options.model);
  const { houses, close } = await openStreet(path, options.threads, depths, without, draftPath, answers);
  const config = configSchema.parse({ speculation: { knownAnswers: answers } });
  const read = readAnswers(config, houses[0]!.runtime.service.info.vocabulary);
  await read?.filled;
  const known = read && knownAnswers(read.table);
  const results: SetResult[] = [];
  try {
    for (const dataset of options.dataset === "all" ? DATASETS : [options.dataset]) {
      const texts = readDataset(dataset).slice(0, PROMPTS);
      const encoded = texts.map((content) => codec.encodeChat([{ role: "user", content }]));
      const prompts = { dataset, prompts: await Promise.all(encoded), stopIds: codec.stopIds };
      results.push(await measureSet(prompts, houses, options, stepMs, known));
      console.error(`${dataset}: measured`);
    }
  } finally {
    await close();
    await codec.close();
  }
  publish(finish(findingsOf(options, houses, results)), options.json);
}

/** The prompts of a set. */
interface Prompts {
  readonly dataset: DatasetName;
  readonly prompts: readonly Uint32Array[];
  readonly stopIds: readonly number[];
}

async function measureSet(
  set: Prompts,
  houses: readonly House[],
  options: SpeculationOptions,
  stepMs: (tokens: number) => number,
  known: Successors | undefined,
): Promise<SetResult> {
  const { dataset, prompts } = set;
  await prefillAll(houses[0]!.runtime.service, prompts, set.stopIds);
  // Compilers and caches warm up: the first run of each house counts for nothing.
  for (const { runtime, name } of houses) {
    await runStreams(runtime.service, { ...set, ...WARM_UP, tenant: `${dataset} ${name} warms up` });
  }
  const cells: Cell[] = [];
  for (const streams of options.loads) {
    cells.push(
      await measureCell(houses, {
        ...set,
        streams,
        maxTokens: MAX_TOKENS,
        tokens: Math.round(options.tokens * Math.sqrt(streams)),
        rounds: options.rounds,
      }),
    );
  }
  requireSameAnswers(cells);
  const alone = cells.find(({ streams }) => streams === 1);
  const recorded = [...(alone?.answers ?? [])].map(([index, answer]) => ({
    prompt: prompts[index]!,
    answer,
  }));
  const overheadMs = alone ? 1000 / alone.plainTokensPerSecond - stepMs(1) : 0;
  const ideal =
    recorded.length > 0
      ? idealOf(recorded, configSchema.parse({}).speculation, (tokens) => overheadMs + stepMs(tokens), known)
      : undefined;
  return { dataset, cells, adapting: await measureChange(houses[0]!, set), ideal };
}

/** Few streams, then many, then few again, with tracing on: the depths that the lane chose at each load. */
async function measureChange({ runtime }: House, { dataset, ...set }: Prompts): Promise<Adapting[]> {
  const { service, system } = runtime;
  const { few, many, tokens } = CHANGE;
  const found: Adapting[] = [];
  system.setTracing(true);
  try {
    for (const [phase, streams] of [few, many, few].entries()) {
      system.traces();
      await runStreams(service, {
        ...set,
        streams,
        maxTokens: MAX_TOKENS,
        tokens: tokens * streams,
        tenant: `${dataset} change ${phase}`,
      });
      const spans = system.traces().filter(({ actor }) => actor === "decode.0");
      const adapting = adaptingOf(spans, streams);
      // The first phase is no change.
      if (adapting && phase > 0) found.push(adapting);
    }
  } finally {
    system.setTracing(false);
  }
  return found;
}

/** Speculation changes no output: whatever was answered twice was answered alike. */
function requireSameAnswers(cells: readonly Cell[]): void {
  const known = new Map<number, readonly number[]>();
  for (const cell of cells) {
    for (const [index, answer] of cell.allAnswers) {
      const other = known.get(index) ?? [];
      const common = Math.min(other.length, answer.length);
      if (other.slice(0, common).join() !== answer.slice(0, common).join()) {
        throw new BenchError(
          `Prompt ${index} of ${cell.dataset} was answered in two ways: speculation must change no output. This is a bug.`,
        );
      }
      if (answer.length > other.length) known.set(index, answer);
    }
  }
}
