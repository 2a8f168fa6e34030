import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { readTrace, type TraceRequest, traceLine } from "#streamserve/simulate/serving/trace.js";
import { wholeNumber, wholeNumbers, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { LONG_MIXTURE, mixedTrace, SERVER_MIXTURE } from "./mixture.js";
import {
  type ReplayResult,
  replayByValue,
  replayLru,
  replayLruToldEnds,
  replayOptimum,
  reuseOf,
} from "./replay.js";

interface PrefixCacheOptions {
  readonly requests: number;
  readonly seed: number;
  readonly trace?: string;
  readonly blockTokens: number;
  readonly blocks?: readonly number[];
  readonly attentionTokens: number;
  readonly write?: string;
  readonly json?: string;
}

interface Workload {
  readonly name: string;
  readonly trace: readonly TraceRequest[];
  readonly blockTokens: number;
  readonly blocks: readonly number[];
}

/** Pools from a few percent of the working set to all of it. 4,000 blocks of 32 tokens: what an 80 GB GPU holds beside a 7B model. */
const SERVER_BLOCKS = [1000, 2000, 4000, 6000];
const LONG_BLOCKS = [250, 500, 1000, 1500];

export function addPrefixCacheCommand(program: Command): void {
  const command = program
    .command("prefix-cache")
    .description(
      "replay traces on the prefix cache: hit rate beside least-recently-used and the offline optimum",
    )
    .option("--requests <n>", "requests of each made-up trace", wholeNumber(10, 10_000_000), 100_000)
    .option("--seed <n>", "seed of the made-up traces", wholeNumber(0, 0xffffffff), 1)
    .option("--trace <file>", "replay this file (Mooncake's format) in place of made-up traces")
    .option("--block-tokens <n>", "tokens in a block of --trace", wholeNumber(1, 65536), 512)
    .option("--blocks <n,n,...>", "sizes of the pool, in blocks", wholeNumbers(1, 100_000_000))
    .option(
      "--attention-tokens <n>",
      "context whose attention costs as much as the rest of a token",
      wholeNumber(1, 1_000_000_000),
      // Llama 7B: 6.5e9 weights in layers over 2 x 32 layers x 4,096 multiply-adds a token of context.
      24_800,
    )
    .option("--write <file>", "only write a made-up trace in Mooncake's format");
  withJson(command).action(runPrefixCache);
}

function runPrefixCache(options: PrefixCacheOptions): void {
  const { requests, seed } = options;
  if (options.write !== undefined) {
    writeFileSync(options.write, asFile(mixedTrace({ ...LONG_MIXTURE, requests, seed })));
    return;
  }
  const finish = beginReport("prefix-cache");
  const workloads = workloadsOf(options);
  const results: Record<string, unknown> = {};
  const tables: Table[] = [];
  for (const workload of workloads) {
    const { table, rows } = measure(workload, options.attentionTokens);
    tables.push(table);
    results[workload.name] = rows;
  }
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables,
      notes: [
        "Each request is done before the next begins; the engine's own index and eviction run, not its KV.",
        "optimum: evicts what is asked for last, knowing the whole trace (Belady). No server can.",
        "LRU told ends: least recently used that is told which blocks nobody asks for again, and lets these go first. No server can know that either.",
      ],
      results,
      figures: tables.map((table) => ({
        kind: "lines" as const,
        title: table.title,
        valueLabel: "hit rate",
        xLabel: "blocks of the pool",
        logarithmic: false,
        series: [1, 2, 3].map((column) => ({
          name: table.columns[column]!,
          points: table.rows.map((row) => [Number(row[0]), Number(row[column])] as const),
        })),
      })),
    }),
    options.json,
  );
}

function workloadsOf(options: PrefixCacheOptions): Workload[] {
  const { requests, seed } = options;
  if (options.trace !== undefined) {
    const trace = readTrace(options.trace);
    const { distinct } = reuseOf(trace);
    const blocks =
      options.blocks ?? [1, 2, 4, 8].map((part) => Math.max(1, Math.round((distinct * part) / 20)));
    return [{ name: options.trace, trace, blockTokens: options.blockTokens, blocks }];
  }
  return [
    {
      name: `${requests} requests of a server, blocks of 32 tokens`,
      trace: mixedTrace({ ...SERVER_MIXTURE, requests, seed }),
      blockTokens: SERVER_MIXTURE.blockTokens,
      blocks: options.blocks ?? SERVER_BLOCKS,
    },
    {
      name: `${requests} long requests read from a file in Mooncake's format, blocks of 512 tokens`,
      trace: throughFile(mixedTrace({ ...LONG_MIXTURE, requests, seed })),
      blockTokens: LONG_MIXTURE.blockTokens,
      blocks: options.blocks ?? LONG_BLOCKS,
    },
  ];
}

function measure(workload: Workload, attentionTokens: number) {
  const { trace, blockTokens } = workload;
  const { asked, distinct } = reuseOf(trace);
  const rate = ({ hits, asked: of }: ReplayResult) => hits / of;
  const rows = workload.blocks.map((blocks) => {
    const value = replayByValue(trace, blocks, blockTokens, attentionTokens);
    return {
      blocks,
      value,
      lru: replayLru(trace, blocks),
      toldEnds: replayLruToldEnds(trace, blocks),
      optimum: replayOptimum(trace, blocks),
    };
  });
  const table: Table = {
    title: `${workload.name}: hit rate (without bounds ${(1 - distinct / asked).toFixed(3)}; ${distinct} blocks differ)`,
    columns: [
      "blocks",
      "by worth",
      "LRU",
      "optimum",
      "of optimum",
      "LRU of optimum",
      "LRU told ends",
      "us a block",
    ],
    rows: rows.map(({ blocks, value, lru, toldEnds, optimum }) => [
      String(blocks),
      rate(value),
      rate(lru),
      rate(optimum),
      rate(value) / rate(optimum),
      rate(lru) / rate(optimum),
      rate(toldEnds),
      value.usPerBlock,
    ]),
  };
  return { table, rows };
}

const asFile = (trace: readonly TraceRequest[]) => `${trace.map(traceLine).join("\n")}\n`;

/** The trace as the reader reads it from a file. */
function throughFile(trace: readonly TraceRequest[]): TraceRequest[] {
  const folder = mkdtempSync(join(tmpdir(), "streamserve-trace-"));
  try {
    const file = join(folder, "trace.jsonl");
    writeFileSync(file, asFile(trace));
    return readTrace(file);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
