import { availableParallelism } from "node:os";
import type { Command } from "commander";
import { closeEngine, NativeLane, openEngine } from "#streamserve/engine/native-engine.js";
import { StreamServeError } from "#streamserve/errors.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { median } from "#streamserve/report/statistics.js";
import type { Table } from "#streamserve/report/table.js";
import { openOwn, runOurs } from "../engine/rivals.js";
import { SHORT_DECODE, type Workload } from "../engine/workloads.js";
import { choice, wholeNumber, withJson } from "../options.js";
import { buildLlamaCpp, type LlamaCpp } from "../peer/build-llama-cpp.js";
import { bestPeerSettings, runPeer } from "../peer/llama-cpp.js";
import { beginReport, publish } from "../report.js";
import { type Closeness, ourCloseness } from "./closeness.js";
import { computeTruth, copyIn, FORMATS, type FormatName, formatNamed, measurePeer } from "./peer.js";
import type { Truth } from "./truth.js";

interface AccuracyOptions {
  readonly model: string;
  readonly threads: number;
  readonly windows: number;
  readonly format?: string;
  readonly family?: string;
  readonly speed: boolean;
  readonly json?: string;
}

const FAMILIES = ["avx512-vnni", "avx2-vnni", "avx2", "neon-i8mm", "neon-dotprod", "portable"];
const PREFILL: Workload = { kind: "prefill", tokens: 512 };
const SPEED_ROUNDS = 3;

export function addAccuracyCommand(program: Command): void {
  const command = program
    .command("accuracy")
    .description("divergence from f32 and perplexity of every format and kernel family, beside llama.cpp's")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option(
      "--threads <n>",
      "compute threads, ours and the peer's",
      wholeNumber(1, 1024),
      availableParallelism(),
    )
    .option("--windows <n>", "windows of 512 tokens", wholeNumber(2, 1000), 8)
    .option("--format <name>", `one alone: ${Object.keys(FORMATS).join(", ")}`)
    .addOption(choice("--family <name>", "one kernel family alone", FAMILIES))
    .option("--no-speed", "leave out the speed of each format");
  withJson(command).action(measureAccuracy);
}

interface FormatFigures {
  readonly format: FormatName;
  readonly peer: Closeness;
  readonly ours: readonly { readonly family: string; readonly closeness: Closeness }[];
  readonly speed?: FormatSpeed;
}

/** Tokens a second, ours and the peer's. */
interface FormatSpeed {
  readonly prefill: readonly [number, number];
  readonly decode: readonly [number, number];
}

async function measureAccuracy(options: AccuracyOptions): Promise<void> {
  const formats = chosenFormats(options.format);
  const finish = beginReport("accuracy");
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const { threads, windows } = options;
  const peer = await buildLlamaCpp(say);
  const model = await resolveModel(options.model);
  const missing = new Set<string>();
  const figures: FormatFigures[] = [];
  for (const format of formats) {
    const path = await copyIn(peer, model, format);
    say(`${format}: the truth`);
    const { file, truth } = await computeTruth(peer, path, windows, threads);
    say(`${format}: llama.cpp`);
    const theirs = await measurePeer(peer, path, file, windows, threads);
    const ours: FormatFigures["ours"][number][] = [];
    for (const family of options.family === undefined ? FAMILIES : [options.family]) {
      say(`${format}: ${family}`);
      const closeness = measureFamily(path, family, threads, truth);
      if (closeness === undefined) missing.add(family);
      else ours.push({ family, closeness });
    }
    const speed = options.speed ? { speed: await measureSpeed(peer, path, threads) } : {};
    figures.push({ format, peer: theirs, ours, ...speed });
  }
  publish(
    finish({
      settings: { model: options.model, threads, windows, peer: peer.description },
      tables: [accuracyTable(figures), ...(options.speed ? [speedTable(figures)] : [])],
      notes: [...missing].map((family) => `Not run: ${family}; this processor lacks it.`),
      results: figures,
      figures: [],
    }),
    options.json,
  );
  if (figures.some(({ peer: theirs, ours }) => ours.some(({ closeness }) => isWorse(closeness, theirs)))) {
    process.exitCode = 1;
  }
}

function chosenFormats(wanted: string | undefined): FormatName[] {
  return wanted === undefined ? (Object.keys(FORMATS) as FormatName[]) : [formatNamed(wanted)];
}

/** Undefined for a family that this processor can't run. */
function measureFamily(
  path: string,
  instructionSet: string,
  threads: number,
  truth: Truth,
): Closeness | undefined {
  let engine: ReturnType<typeof openEngine>;
  try {
    engine = openEngine({ path, instructionSet, threads, kvTokens: 1024 });
  } catch (error) {
    if (error instanceof StreamServeError && error.code === "native_argument_invalid") return undefined;
    throw error;
  }
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 512 });
  try {
    return ourCloseness(lane, truth);
  } finally {
    lane.close();
    closeEngine(engine.id);
  }
}

async function measureSpeed(peer: LlamaCpp, path: string, threads: number): Promise<FormatSpeed> {
  const own = openOwn({ path, threads, instructionSet: "auto", kv: "f16" });
  const measure = async (workload: Workload): Promise<[number, number]> => {
    const settings = await bestPeerSettings(peer, path, threads, workload, 1);
    const ours: number[] = [];
    const theirs: number[] = [];
    runOurs(own.workload, workload);
    for (let round = 0; round < SPEED_ROUNDS; round++) {
      ours.push(runOurs(own.workload, workload));
      theirs.push(await runPeer(peer, path, threads, workload, settings));
    }
    return [median(ours), median(theirs)];
  };
  try {
    return { prefill: await measure(PREFILL), decode: await measure(SHORT_DECODE) };
  } finally {
    own.close();
  }
}

/** The claim is the divergence: perplexity goes up and down by chance where a model is a little off. */
function isWorse(ours: Closeness, theirs: Closeness): boolean {
  return ours.divergence > theirs.divergence + DIVERGENCE_NOISE;
}

/** The truth is kept in steps, which leave so much of a mean divergence uncertain, in nats. */
const DIVERGENCE_NOISE = 1e-5;

function accuracyTable(figures: readonly FormatFigures[]): Table {
  return {
    title: "Mean divergence from f32 (nats), perplexity, share of equal first choices",
    columns: [
      "",
      "divergence",
      "llama.cpp's",
      "perplexity",
      "llama.cpp's",
      "over f32's %",
      "llama.cpp's",
      "same choice %",
      "llama.cpp's",
    ],
    rows: figures.flatMap(({ format, peer, ours }) =>
      ours.map(({ family, closeness }) => [
        `${format}, ${family}`,
        closeness.divergence.toFixed(6),
        peer.divergence.toFixed(6),
        closeness.perplexity.toFixed(4),
        peer.perplexity.toFixed(4),
        describeExcess(closeness),
        describeExcess(peer),
        (closeness.sameChoice * 100).toFixed(2),
        (peer.sameChoice * 100).toFixed(2),
      ]),
    ),
  };
}

/** By how many percent the perplexity is above the truth's, and the standard error. */
function describeExcess({ excess }: Closeness): string {
  return `${(excess.mean * 100).toFixed(2)} ± ${(excess.error * 100).toFixed(2)}`;
}

function speedTable(figures: readonly FormatFigures[]): Table {
  return {
    title: "Speed of each format, the processor's best kernels, tokens/s",
    columns: ["", "prefill 512", "llama.cpp's", "decode, 1 sequence", "llama.cpp's"],
    rows: figures.flatMap(({ format, speed }) =>
      speed === undefined ? [] : [[format, ...speed.prefill, ...speed.decode]],
    ),
  };
}
