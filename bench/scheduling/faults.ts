import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { startRuntime } from "#streamserve/actors/start.js";
import { configSchema } from "#streamserve/config/schema.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { summarize } from "#streamserve/report/statistics.js";
import { seededRandom } from "../load/arrivals.js";
import { positiveNumber, wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { gapsMs, openStream, randomPrompt, type StreamRecord } from "./stream.js";

interface FaultsOptions {
  readonly model: string;
  readonly seconds: number;
  readonly every: number;
  readonly streams: number;
  readonly tokens: number;
  readonly seed: number;
  readonly json?: string;
}

/** Requests of which the right tokens are known; they come again and again. */
const KINDS = 24;
const MOST_PROMPT = 200;
/** The supervisor is to restart whatever is killed: deaths here are no sign of a fault. */
const RESTARTS = 1000;

export function addFaultsCommand(program: Command): void {
  const command = program
    .command("faults")
    .description(
      "kills an actor picked at random again and again under load: every answer must come, and right",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--seconds <n>", "length of the run", positiveNumber(3600), 60)
    .option("--every <n>", "seconds between two deaths", positiveNumber(60), 2)
    .option("--streams <n>", "streams at a time", wholeNumber(1, 128), 12)
    .option("--tokens <n>", "output tokens of each", wholeNumber(8, 1024), 64)
    .option("--seed <n>", "seed of victims and order", wholeNumber(0, 2 ** 31), 1);
  withJson(command).action(runFaults);
}

async function runFaults(options: FaultsOptions): Promise<void> {
  const finish = beginReport("faults");
  const path = await resolveModel(options.model);
  const config = configSchema.parse({ model: path, runtime: { restarts: RESTARTS, restartWithinMs: 1000 } });
  const runtime = await startRuntime(config, path);
  const { service, system } = runtime;
  const random = seededRandom(options.seed + 1);
  const { vocabulary } = service.info;
  const kinds = Array.from({ length: KINDS }, (_, i) => ({
    prompt: randomPrompt(random, 16 + Math.floor(random() * MOST_PROMPT), vocabulary),
    maxTokens: options.tokens,
    sampling: i % 2 === 0 ? {} : { temperature: 0.8, seed: i },
  }));
  const victims: Record<string, number> = {};
  const records: { readonly kind: number; readonly record: StreamRecord }[] = [];
  let beganMs = 0;
  try {
    const right = await Promise.all(kinds.map((kind) => openStream(service, kind).ended));
    const actors = (await system.inspect()).map(({ name }) => name).filter((name) => name !== "gateway");
    beganMs = performance.now();
    const untilMs = beganMs + options.seconds * 1000;
    const stream = async (): Promise<void> => {
      while (performance.now() < untilMs) {
        const kind = Math.floor(random() * KINDS);
        records.push({ kind, record: await openStream(service, kinds[kind]!).ended });
      }
    };
    const streams = Array.from({ length: options.streams }, stream);
    while (performance.now() + options.every * 1000 < untilMs) {
      await delay(options.every * 1000);
      const victim = actors[Math.floor(random() * actors.length)]!;
      victims[victim] = (victims[victim] ?? 0) + 1;
      await system.kill(victim);
    }
    await Promise.all(streams);
    const snapshot = service.snapshot();
    const wrong = records.filter(({ kind, record }) => !same(record.ids, right[kind]!.ids));
    const failed = records.filter(({ record }) => record.outcome !== "done");
    const worst = summarize(records.map(({ record }) => Math.max(0, ...gapsMs(record))));
    const deaths = Object.values(victims).reduce((sum, count) => sum + count, 0);
    publish(
      finish({
        settings: { ...options, json: undefined },
        tables: [
          {
            title: `${options.streams} streams at a time for ${options.seconds} s, an actor killed every ${options.every} s`,
            columns: ["", ""],
            rows: [
              ["answers", records.length],
              ["failed", failed.length],
              ["with other tokens than undisturbed", wrong.length],
              ["deaths", deaths],
              ["restarts counted by the supervisor", snapshot.actorRestarts],
              ["requests that began again", snapshot.resumptions],
              ["longest silence of a stream, ms, p50", worst.p50],
              ["longest silence of a stream, ms, most", worst.max],
              ["KV blocks left in use", snapshot.kv.usedBlocks],
            ],
          },
          { title: "Deaths", columns: ["actor", "times"], rows: Object.entries(victims).sort() },
        ],
        notes: [...new Set(failed.map(({ record }) => `A request failed with ${record.outcome}.`))],
        results: { victims, failed: failed.length, wrong: wrong.length, snapshot, worst },
        figures: [],
      }),
      options.json,
    );
    if (failed.length + wrong.length > 0 || snapshot.kv.usedBlocks > 0 || deaths === 0) process.exitCode = 1;
  } finally {
    await runtime.stop();
  }
}

function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}
