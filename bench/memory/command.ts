import { existsSync } from "node:fs";
import type { Command } from "commander";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { BenchError } from "../bench-error.js";
import { chatBody } from "../load/chat-body.js";
import { CompletionClient } from "../load/client.js";
import { readDataset } from "../load/dataset.js";
import { drive } from "../load/drive.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { type Resident, ServerProcess } from "./server.js";

interface MemoryOptions {
  readonly model: string;
  readonly kvTokens: number;
  readonly requests: number;
  readonly concurrency: number;
  readonly maxTokens: number;
  readonly json?: string;
}

/** What the server may take beyond packed weights and KV: Node, its threads, buffers, sockets. */
const ALLOWANCE_BYTES = 200e6;
const SAMPLE_MS = 100;
const REQUEST_TIMEOUT_MS = 600_000;

export function addMemoryCommand(program: Command): void {
  const command = program
    .command("memory")
    .description("resident memory of our own server under load, against packed weights + KV + 200 MB (Linux)")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--kv-tokens <n>", "tokens of KV in the pool", wholeNumber(256, 10_000_000), 16_384)
    .option("--requests <n>", "requests to send", wholeNumber(1, 100_000), 96)
    .option("--concurrency <n>", "requests in flight, at most", wholeNumber(1, 1024), 32)
    .option("--max-tokens <n>", "output tokens of each request", wholeNumber(1, 4096), 64);
  withJson(command).action(runMemory);
}

async function runMemory(options: MemoryOptions): Promise<void> {
  if (!existsSync("/proc/self/status"))
    throw new BenchError("Resident memory is read from /proc, which is not here.");
  const finish = beginReport("memory");
  const path = await resolveModel(options.model);
  const engine = openEngine({ path, kvTokens: options.kvTokens });
  const { weightBytes, kvBytes } = engine;
  closeEngine(engine.id);
  const server = await ServerProcess.start(["--model", path, "--set", `engine.kvTokens=${options.kvTokens}`]);
  const client = new CompletionClient(server.url, undefined, REQUEST_TIMEOUT_MS);
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  try {
    const model = await client.firstModel();
    const idle = server.resident();
    const samples: Resident[] = [];
    const sampler = setInterval(() => samples.push(server.resident()), SAMPLE_MS);
    const prompts = readDataset("sum");
    const run = await drive(
      options.requests,
      options.concurrency,
      undefined,
      (index, dueMs) =>
        client.complete(
          chatBody(model, prompts[index % prompts.length]!, options.maxTokens),
          dueMs,
          interrupt.signal,
        ),
      interrupt.signal,
    ).finally(() => clearInterval(sampler));
    const after = server.resident();
    const peak = [idle, ...samples, after].reduce((most, sample) =>
      sample.total > most.total ? sample : most,
    );
    const failed = run.outcomes.filter((outcome) => outcome?.ok === false).length;
    const budget = weightBytes + kvBytes + ALLOWANCE_BYTES;
    const row = (name: string, sample: Resident) => [
      name,
      sample.total / 1e6,
      sample.anonymous / 1e6,
      sample.file / 1e6,
      (sample.total / budget) * 100,
    ];
    publish(
      finish({
        settings: { ...options, json: undefined },
        tables: [
          {
            title: "Resident memory of the server, MB (10^6 bytes)",
            columns: ["", "all", "anonymous", "mapped files", "% of budget"],
            rows: [row("ready, idle", idle), row("most, under load", peak), row("after the load", after)],
          },
          {
            title: "Budget, MB",
            columns: ["", "MB"],
            rows: [
              ["packed weights", weightBytes / 1e6],
              [`KV of ${options.kvTokens} tokens`, kvBytes / 1e6],
              ["allowance", ALLOWANCE_BYTES / 1e6],
              ["all", budget / 1e6],
            ],
          },
        ],
        notes:
          failed > 0
            ? [`${failed} of ${options.requests} requests failed: the load was lighter than asked for.`]
            : [],
        results: {
          idle,
          peak,
          after,
          weightBytes,
          kvBytes,
          allowanceBytes: ALLOWANCE_BYTES,
          budget,
          samples,
          failed,
        },
        figures: [
          {
            kind: "lines",
            title: "Resident memory under load",
            valueLabel: "MB",
            xLabel: "seconds",
            logarithmic: false,
            series: [
              {
                name: "resident",
                points: samples.map(({ total }, index) => [((index + 1) * SAMPLE_MS) / 1000, total / 1e6]),
              },
              {
                name: "budget",
                points: [
                  [0, budget / 1e6],
                  [(samples.length * SAMPLE_MS) / 1000, budget / 1e6],
                ],
              },
            ],
          },
        ],
      }),
      options.json,
    );
    if (peak.total > budget || failed > 0) process.exitCode = 1;
  } finally {
    process.removeListener("SIGINT", onInterrupt);
    client.close();
    await server.stop();
  }
}
