import type { Command } from "commander";
import { configSchema } from "#streamserve/config/schema.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { ascending, percentile } from "#streamserve/report/statistics.js";
import { seededRandom } from "../load/arrivals.js";
import { wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { gapsMs, openStream, randomPrompt, type StreamRecord, tokenMs } from "./stream.js";

interface StabilityOptions {
  readonly model: string;
  readonly streams: number;
  readonly tokens: number;
  readonly promptTokens: number;
  readonly rounds: number;
  readonly json?: string;
}

/** Prompt of a decoding stream, in tokens. */
const SHORT_PROMPT = 64;
/** The pool lends prefill this share of cores while decode steps run, at least one core: see compute-pool.md. */
const LENT_SHARE = 4;

export function addStabilityCommand(program: Command): void {
  const command = program
    .command("stability")
    .description("what long prompts that arrive do to the time per token of streams that decode")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--streams <n>", "streams that decode", wholeNumber(1, 64), 8)
    .option("--tokens <n>", "output tokens of each", wholeNumber(16, 8192), 1024)
    .option("--prompt-tokens <n>", "length of the prompts that arrive", wholeNumber(16, 100_000), 4096)
    .option("--rounds <n>", "pairs of runs, without and with arrivals", wholeNumber(1, 100), 2);
  withJson(command).action(runStability);
}

async function runStability(options: StabilityOptions): Promise<void> {
  const finish = beginReport("stability");
  const path = await resolveModel(options.model);
  const { streams, tokens, promptTokens } = options;
  const kvTokens = 32 * Math.ceil((streams * (SHORT_PROMPT + tokens + 64) + 4 * promptTokens) / 32);
  // Speculation off: a token a step, so that steps can be compared.
  const config = configSchema.parse({ model: path, engine: { kvTokens }, speculation: { maxDepth: 0 } });
  const core = await openCore(config);
  const { threads, vocabulary } = core.service.info;
  const random = seededRandom(3);
  const calm: StreamRecord[] = [];
  const disturbed: StreamRecord[] = [];
  let prompts = 0;
  try {
    for (let round = -1; round < options.rounds; round++) {
      for (const arrivals of round % 2 === 0 ? [true, false] : [false, true]) {
        const records = await decode(arrivals);
        // The first pair warms up.
        if (round >= 0) (arrivals ? disturbed : calm).push(...records);
      }
    }
  } finally {
    await core.close();
  }

  /** All streams decode side by side; with arrivals, one long prompt after another is computed meanwhile. */
  async function decode(arrivals: boolean): Promise<StreamRecord[]> {
    let begun = 0;
    let ready = (): void => {};
    const all = new Promise<void>((resolve) => {
      ready = resolve;
    });
    const open = Array.from({ length: streams }, () => {
      let first = true;
      return openStream(core.service, {
        prompt: randomPrompt(random, SHORT_PROMPT, vocabulary),
        maxTokens: tokens,
        onTokens: () => {
          if (first && ++begun === streams) ready();
          first = false;
        },
      });
    });
    const records = Promise.all(open.map(({ ended }) => ended));
    await all;
    let over = false;
    const sending = arrivals ? send(() => over) : undefined;
    const done = await records;
    over = true;
    await sending;
    return done;
  }

  async function send(over: () => boolean): Promise<void> {
    while (!over()) {
      const long = openStream(core.service, {
        prompt: randomPrompt(random, promptTokens, vocabulary),
        maxTokens: 1,
      });
      const timer = setInterval(() => over() && long.cancel(), 5);
      const { outcome } = await long.ended;
      clearInterval(timer);
      if (outcome === "done") prompts++;
    }
  }

  const lent = Math.max(1, Math.floor(threads / LENT_SHARE)) / threads;
  const spare = threads > LENT_SHARE;
  const allowed = spare ? 1.25 : 1 / (1 - lent);
  const of = (records: readonly StreamRecord[], values: (record: StreamRecord) => number[], p: number) =>
    percentile(ascending(records.flatMap(values)), p);
  const rows = [
    ["a stream's mean, p50", (r: StreamRecord) => [tokenMs(r)], 50],
    ["a stream's mean, p99", (r: StreamRecord) => [tokenMs(r)], 99],
    ["single tokens, p50", gapsMs, 50],
    ["single tokens, p99", gapsMs, 99],
  ] as const;
  const table = rows.map(([name, values, p]) => {
    const [without, beside] = [of(calm, values, p), of(disturbed, values, p)];
    return { name, without, beside, ratio: beside / without };
  });
  const judged = table[1]!.ratio;
  publish(
    finish({
      settings: { ...options, json: undefined, threads, kvTokens },
      tables: [
        {
          title: `${streams} streams decode, prompts of ${promptTokens} tokens arrive one after another: milliseconds a token`,
          columns: ["", "without", "with arrivals", "ratio"],
          rows: table.map(({ name, without, beside, ratio }) => [name, without, beside, ratio]),
        },
        {
          title: "What the cores allow",
          columns: ["", ""],
          rows: [
            ["cores", threads],
            ["lent to prefill while decode runs, % of cores", lent * 100],
            [spare ? "ratio allowed with cores to spare" : "ratio of a step on the cores left", allowed],
            ["ratio of p99 of streams' means", judged],
            ["long prompts computed meanwhile", prompts],
          ],
        },
      ],
      notes: prompts === 0 ? ["No long prompt was done before the streams ended: ask for more tokens."] : [],
      results: { table, lent, allowed, prompts },
      figures: [
        {
          kind: "bars",
          title: "Time per token while long prompts arrive",
          valueLabel: "milliseconds a token",
          groups: table.map(({ name }) => name),
          series: [
            { name: "without", values: table.map(({ without }) => without) },
            { name: "with arrivals", values: table.map(({ beside }) => beside) },
          ],
        },
      ],
    }),
    options.json,
  );
  if (!(judged <= allowed) || prompts === 0) process.exitCode = 1;
}
