import type { Command } from "commander";
import { summarize } from "#streamserve/report/statistics.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { timeFlood, timeMainRoundTrips, timeRoundTrips } from "./measure.js";

interface RuntimeOptions {
  readonly messages: number;
  readonly trips: number;
  readonly rounds: number;
  readonly json?: string;
}

/** Ring of the flooded edge: the product's default (config `runtime.ringBytes`). */
const RING_BYTES = 1 << 18;
/** Rest before a message that must find its receiver asleep: hundreds of times the receiver's spin. */
const GAP_MS = 1;

export function addRuntimeCommand(program: Command): void {
  const command = program
    .command("runtime")
    .description("time messages between actors: throughput of an edge, round trips, wake-ups")
    .option("--messages <n>", "messages of a flood", wholeNumber(1000, 100_000_000), 4_000_000)
    .option("--trips <n>", "round trips of each kind", wholeNumber(10, 50_000), 2000)
    .option("--rounds <n>", "floods", wholeNumber(1, 100), 5);
  withJson(command).action(runRuntime);
}

async function runRuntime(options: RuntimeOptions): Promise<void> {
  const finish = beginReport("runtime");
  const millionsPerSecond: number[] = [];
  for (let round = 0; round < options.rounds; round++) {
    millionsPerSecond.push(options.messages / 1000 / (await timeFlood(options.messages, RING_BYTES)));
  }
  const count = options.trips;
  const trips = {
    "awake, tell": await timeRoundTrips({ count, asks: false, gapMs: 0 }),
    "awake, ask": await timeRoundTrips({ count, asks: true, gapMs: 0 }),
    "receiver parked, tell": await timeRoundTrips({ count, asks: false, gapMs: GAP_MS }),
    "both parked, no spinning, tell": await timeRoundTrips({ count, asks: false, gapMs: GAP_MS, spinUs: 0 }),
    "both parked, no spinning, ask": await timeRoundTrips({ count, asks: true, gapMs: GAP_MS, spinUs: 0 }),
    "main thread (waitAsync) and worker": await timeMainRoundTrips(count, GAP_MS),
  };
  const summaries = Object.entries(trips).map(([name, values]) => ({ name, us: summarize(values) }));
  const flood = summarize(millionsPerSecond);
  publish(
    finish({
      settings: { messages: options.messages, trips: count, rounds: options.rounds, ringBytes: RING_BYTES },
      tables: [
        {
          title: "Messages of 64 bytes along one edge, thread to thread, millions a second",
          columns: ["", "median", "least", "most"],
          rows: [["tell", flood.p50, flood.min, flood.max]],
        },
        {
          title: "Round trips between two threads, microseconds",
          columns: ["", "p50", "p90", "p99", "mean"],
          rows: summaries.map(({ name, us }) => [name, us.p50, us.p90, us.p99, us.mean]),
        },
      ],
      notes: [],
      results: { millionMessagesPerSecond: flood, roundTripsUs: summaries },
      figures: [
        {
          kind: "bars",
          title: "Round trips between two threads",
          valueLabel: "microseconds",
          groups: summaries.map(({ name }) => name),
          series: [
            { name: "p50", values: summaries.map(({ us }) => us.p50) },
            { name: "p90", values: summaries.map(({ us }) => us.p90) },
          ],
        },
      ],
    }),
    options.json,
  );
}
