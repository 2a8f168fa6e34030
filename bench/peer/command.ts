import { availableParallelism } from "node:os";
import { basename } from "node:path";
import type { Command } from "commander";
import { resolveModel } from "#streamserve/model/resolve.js";
import { type Summary, summarize } from "#streamserve/report/statistics.js";
import { describeWorkload, WORKLOADS, type Workload } from "../engine/workloads.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { buildLlamaCpp, type LlamaCpp } from "./build-llama-cpp.js";
import { fastCopies } from "./fast-formats.js";
import { bestPeerSettings, type PeerSettings, runPeer } from "./llama-cpp.js";

interface PeerOptions {
  readonly model: string;
  readonly threads: number;
  readonly rounds: number;
  readonly formats: boolean;
  readonly json?: string;
}

export function addPeerCommand(program: Command): void {
  const command = program
    .command("peer")
    .description("build llama.cpp for this processor and measure it alone, at its best settings")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--threads <n>", "compute threads", wholeNumber(1, 1024), availableParallelism())
    .option("--rounds <n>", "runs of each workload", wholeNumber(1, 100), 3)
    .option("--no-formats", "leave out copies in llama.cpp's fast 4-bit formats");
  withJson(command).action(measurePeer);
}

async function measurePeer(options: PeerOptions): Promise<void> {
  const finish = beginReport("peer");
  const say = (text: string) => process.stderr.write(`${text}\n`);
  const peer = await buildLlamaCpp(say);
  const shipped = await resolveModel(options.model);
  const files = [
    { format: basename(shipped), path: shipped },
    ...(options.formats ? await fastCopies(peer, shipped, say) : []),
  ];
  const measured: PeerFigure[] = [];
  for (const { format, path } of files) {
    for (const workload of WORKLOADS) {
      say(`${format}: ${describeWorkload(workload)}`);
      measured.push({ format, workload, ...(await measureWorkload(peer, path, options, workload)) });
    }
  }
  publish(
    finish({
      settings: {
        model: options.model,
        threads: options.threads,
        rounds: options.rounds,
        peer: peer.description,
      },
      tables: [table(measured, options.threads)],
      notes: [`Programs are in ${peer.bin}; llama-server there serves for \`bench load\`.`],
      results: measured,
      figures: [],
    }),
    options.json,
  );
}

interface PeerFigure {
  readonly format: string;
  readonly workload: Workload;
  readonly settings: PeerSettings;
  readonly tokensPerSecond: Summary;
}

async function measureWorkload(
  peer: LlamaCpp,
  model: string,
  options: PeerOptions,
  workload: Workload,
): Promise<Pick<PeerFigure, "settings" | "tokensPerSecond">> {
  const settings = await bestPeerSettings(peer, model, options.threads, workload, 1);
  const speeds: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    speeds.push(await runPeer(peer, model, options.threads, workload, settings));
  }
  return { settings, tokensPerSecond: summarize(speeds) };
}

function table(figures: readonly PeerFigure[], threads: number): Table {
  return {
    title: `llama.cpp alone, ${threads} threads, tokens/s`,
    columns: ["", "median", "least", "most", "flash attention", "micro-batch"],
    rows: figures.map(({ format, workload, settings, tokensPerSecond }) => [
      `${format}: ${describeWorkload(workload)}`,
      tokensPerSecond.p50,
      tokensPerSecond.min,
      tokensPerSecond.max,
      settings.flashAttention ? "on" : "off",
      settings.microBatch,
    ]),
  };
}
