import type { Command } from "commander";
import { resolveModel } from "#streamserve/model/resolve.js";
import { median, summarize } from "#streamserve/report/statistics.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { type Start, startEmbedded, startServed } from "./run.js";

interface StartOptions {
  readonly model: string;
  readonly runs: number;
  readonly promptTokens: number;
  readonly json?: string;
}

export function addStartCommand(program: Command): void {
  const command = program
    .command("start")
    .description("time from the start of a process until it is ready, and on to the first token")
    .option("--model <name>", "catalogue name, .gguf file or safetensors directory", "smollm2-135m-instruct")
    .option("--runs <n>", "starts of each kind that count", wholeNumber(1, 1000), 9)
    .option("--prompt-tokens <n>", "length of the prompt", wholeNumber(1, 4096), 32);
  withJson(command).action(measureStarts);
}

async function measureStarts(options: StartOptions): Promise<void> {
  const finish = beginReport("start");
  const model = await resolveModel(options.model);
  const embedded: Start[] = [];
  const served: Start[] = [];
  // The first of each fills the caches and does not count; kinds alternate, so that both see the same machine.
  for (let run = 0; run <= options.runs; run++) {
    const [one, other] = [
      await startEmbedded(model, options.promptTokens),
      await startServed(model, options.promptTokens),
    ];
    if (run === 0) continue;
    embedded.push(one);
    served.push(other);
  }
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables: [
        timesTable(embedded, served, options.promptTokens),
        partsTable(
          "StreamServe.start: when each part was done, median ms from the start of the process",
          embedded,
        ),
        partsTable("streamserve serve: the same", served),
      ],
      notes: ["npm itself is not counted: `npm start` adds its own start and the check of what is built."],
      results: { embedded, served },
      figures: [],
    }),
    options.json,
  );
}

function timesTable(embedded: readonly Start[], served: readonly Start[], promptTokens: number): Table {
  const row = (name: string, values: readonly number[]) => {
    const { p50, min, max } = summarize(values);
    return [name, p50, min, max];
  };
  return {
    title: "Starts with the packed cache present, ms",
    columns: ["", "median", "least", "most"],
    rows: [
      row(
        "StreamServe.start: ready",
        embedded.map(({ readyMs }) => readyMs),
      ),
      row(
        `  first token of ${promptTokens}, after that`,
        embedded.map(({ firstTokenMs }) => firstTokenMs),
      ),
      row(
        "  processor time of all threads until ready",
        embedded.map(({ processorMs }) => processorMs),
      ),
      row(
        "streamserve serve: ready",
        served.map(({ readyMs }) => readyMs),
      ),
      row(
        `  first token of ${promptTokens}, after that`,
        served.map(({ firstTokenMs }) => firstTokenMs),
      ),
      row(
        "  processor time of all threads until ready",
        served.map(({ processorMs }) => processorMs),
      ),
    ],
  };
}

function partsTable(title: string, starts: readonly Start[]): Table {
  const names = [...new Set(starts.flatMap(({ parts }) => parts.map(({ part }) => part)))];
  const rows = names.map((name) => {
    const times = starts.flatMap(({ parts }) =>
      parts.filter(({ part }) => part === name).map(({ ms }) => ms),
    );
    return [name, median(times)] as const;
  });
  return { title, columns: ["", "ms"], rows: [...rows].sort((a, b) => a[1] - b[1]) };
}
