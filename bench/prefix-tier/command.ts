import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { GREEDY } from "#streamserve/engine/engine.js";
import { closeEngine, NativeLane, openEngine, prefixTierCounts } from "#streamserve/engine/native-engine.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { summarize } from "#streamserve/report/statistics.js";
import { BenchError } from "../bench-error.js";
import { cacheDirectory } from "../cache.js";
import { seededRandom } from "../load/arrivals.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";

interface PrefixTierBenchOptions {
  readonly model: string;
  readonly threads: number;
  readonly rounds: number;
  readonly prefix: number;
  readonly json?: string;
}

/** Behind the prefix: what is computed in any case. */
const REST_TOKENS = 16;
const CHUNK_TOKENS = 256;
const TIER_BYTES = 2 ** 30;

export function addPrefixTierCommand(program: Command): void {
  const command = program
    .command("prefix-tier")
    .description(
      "time to first token of a prefix that gave way, or of an earlier process: computed, or read from disk",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads", wholeNumber(1, 1024), availableParallelism())
    .option("--rounds <n>", "runs of each", wholeNumber(1, 100), 5)
    .option("--prefix <n>", "tokens of the prefix", wholeNumber(32, 100_000), 1000);
  withJson(command).action(measurePrefixTier);
}

type Case = "computed" | "in memory" | "after eviction" | "after a restart";

async function measurePrefixTier(options: PrefixTierBenchOptions): Promise<void> {
  const finish = beginReport("prefix-tier");
  const path = await resolveModel(options.model);
  const directory = mkdtempSync(join(cacheDirectory("prefix-tier"), "run-"));
  const times: Record<Case, number[]> = {
    computed: [],
    "in memory": [],
    "after eviction": [],
    "after a restart": [],
  };
  try {
    for (let round = 0; round < options.rounds; round++) measureRound(path, directory, options, round, times);
  } finally {
    rmSync(directory, { recursive: true });
  }
  publish(
    finish({
      settings: { ...options },
      tables: [
        {
          title: `First token of a prompt with a prefix of ${options.prefix} tokens, ms`,
          columns: ["prefix", "median", "least", "most"],
          rows: Object.entries(times).map(([name, ms]) => {
            const { p50, min, max } = summarize(ms);
            return [name, p50, min, max];
          }),
        },
      ],
      notes: ["The system may have kept the file in memory: a disk alone is slower."],
      results: times,
      figures: [],
    }),
    options.json,
  );
}

function measureRound(
  path: string,
  directory: string,
  { threads, prefix }: PrefixTierBenchOptions,
  round: number,
  times: Record<Case, number[]>,
): void {
  const before = new House(path, directory, threads, prefix, round);
  try {
    times.computed.push(before.firstToken(0));
    times["in memory"].push(before.firstToken(prefix));
    before.evict();
    times["after eviction"].push(before.firstToken(prefix));
  } finally {
    before.close();
  }
  const after = new House(path, directory, threads, prefix, round);
  try {
    times["after a restart"].push(after.firstToken(prefix));
  } finally {
    after.close();
  }
}

/** An engine with a tier, whose pool has room for two prompts. */
class House {
  readonly #engine: ReturnType<typeof openEngine>;
  readonly #lane: NativeLane;
  readonly #prefix: Uint32Array;
  readonly #random: () => number;

  constructor(path: string, directory: string, threads: number, prefix: number, round: number) {
    const kvTokens = 2 * (prefix + REST_TOKENS + CHUNK_TOKENS);
    this.#engine = openEngine({ path, threads, kvTokens, tier: { directory, bytes: TIER_BYTES } });
    this.#lane = new NativeLane({
      engine: this.#engine,
      lane: 0,
      role: "prefill",
      maxRows: 1,
      maxBatchTokens: CHUNK_TOKENS,
    });
    this.#random = seededRandom(round + 1);
    this.#prefix = this.#ids(prefix);
    // What the first step brings into memory is not the prefix's.
    this.#compute(this.#ids(CHUNK_TOKENS));
  }

  /** Milliseconds to the first token; all but the last block of `found` tokens must come from the cache or the tier. */
  firstToken(found: number): number {
    const rest = this.#ids(REST_TOKENS);
    const prompt = new Uint32Array(this.#prefix.length + rest.length);
    prompt.set(this.#prefix);
    prompt.set(rest, this.#prefix.length);
    const beganMs = performance.now();
    const cached = this.#compute(prompt);
    const ms = performance.now() - beganMs;
    if (cached < found - this.#engine.blockTokens) {
      throw new BenchError(`Only ${cached} of ${found} tokens were found: nothing was measured.`);
    }
    return ms;
  }

  /** Other prompts, until the prefix has given way and is written. */
  evict(): void {
    const blocks = Math.floor(this.#prefix.length / this.#engine.blockTokens);
    for (let i = 0; i < 3 || prefixTierCounts(this.#engine.id).written < 2 * blocks; i++) {
      this.#compute(this.#ids(this.#prefix.length));
      if (i > MOST_EVICTIONS) throw new BenchError("The tier writes nothing: is the disk full?");
    }
  }

  close(): void {
    this.#lane.close();
    closeEngine(this.#engine.id);
  }

  /** Gives the tokens that were found. */
  #compute(prompt: Uint32Array): number {
    const { handle, cachedTokens } = this.#lane.createSequence(prompt, prompt.length, GREEDY);
    for (let from = cachedTokens; from < prompt.length; from += CHUNK_TOKENS) {
      const tokens = prompt.subarray(from, from + CHUNK_TOKENS);
      const sample = from + CHUNK_TOKENS >= prompt.length;
      this.#lane.submit([{ sequence: handle, tokens, drafts: 0, sample }]).collect();
    }
    this.#lane.release(handle);
    return cachedTokens;
  }

  #ids(count: number): Uint32Array {
    return Uint32Array.from({ length: count }, () =>
      Math.floor(this.#random() * this.#lane.limits.vocabulary),
    );
  }
}

/** Prompts that push others out; a few do. */
const MOST_EVICTIONS = 50;
