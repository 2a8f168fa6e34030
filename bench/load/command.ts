import type { Command } from "commander";
import { choice, positiveNumber, wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";
import { drawOrder, poissonArrivals, seededRandom } from "./arrivals.js";
import { chatBody } from "./chat-body.js";
import { CompletionClient } from "./client.js";
import { DATASETS, type DatasetName, readDataset } from "./dataset.js";
import { drive } from "./drive.js";
import { loadFindings, loadResults } from "./findings.js";

interface LoadOptions {
  readonly url: string;
  readonly dataset: DatasetName;
  readonly requests: number;
  readonly concurrency: number;
  readonly maxTokens: number;
  readonly rate?: number;
  readonly model?: string;
  readonly seed: number;
  readonly warmup: number;
  readonly sloTtftMs: number;
  readonly sloTpotMs: number;
  readonly timeoutS: number;
  readonly apiKey?: string;
  readonly json?: string;
}

/** Not in any data set, so that it warms kernels and connections but no prefix cache. */
const WARM_UP_PROMPT = "Name three rivers.";

export function addLoadCommand(program: Command): void {
  const command = program
    .command("load")
    .description("stream chat completions from any OpenAI-compatible server, and measure them")
    .requiredOption("--url <url>", "the server's root, e.g. http://127.0.0.1:8080")
    .addOption(choice("--dataset <name>", "prompts to send", DATASETS).default("alpaca"))
    .option("--requests <n>", "requests to send", wholeNumber(1, 1_000_000), 80)
    .option("--concurrency <n>", "requests in flight, at most", wholeNumber(1, 4096), 8)
    .option("--max-tokens <n>", "output tokens of each request", wholeNumber(1, 131_072), 128)
    .option(
      "--rate <r>",
      "requests a second, Poisson arrivals; default: the next when one ends",
      positiveNumber(1e5),
    )
    .option("--model <id>", "model to ask for; default: the first that the server lists")
    .option("--seed <s>", "seed of the order of prompts and of arrivals", wholeNumber(0, 2 ** 32 - 1), 0)
    .option("--warmup <n>", "requests sent first and not measured", wholeNumber(0, 1000), 2)
    .option("--slo-ttft-ms <ms>", "objective for the time to first token", positiveNumber(1e9), Infinity)
    .option("--slo-tpot-ms <ms>", "objective for the time per output token", positiveNumber(1e9), Infinity)
    .option("--timeout-s <s>", "seconds after which a request has failed", positiveNumber(86_400), 600)
    .option("--api-key <key>", "sent as a bearer token")
    .addHelpText(
      "after",
      "\nExample: npm run bench -- load --url http://127.0.0.1:8080 --dataset sum --requests 80 --concurrency 8",
    );
  withJson(command).action(runLoad);
}

async function runLoad(options: LoadOptions): Promise<void> {
  const prompts = readDataset(options.dataset);
  const finish = beginReport("load");
  const client = new CompletionClient(options.url, options.apiKey, options.timeoutS * 1000);
  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  try {
    const model = options.model ?? (await client.firstModel());
    const random = seededRandom(options.seed);
    const order = drawOrder(prompts, options.requests, random);
    const arrivals =
      options.rate === undefined ? undefined : poissonArrivals(options.requests, options.rate, random);
    const ask = (prompt: string, maxTokens: number, dueMs: number) =>
      client.complete(chatBody(model, prompt, maxTokens), dueMs, interrupt.signal);
    for (let sent = 0; sent < options.warmup; sent++) await ask(WARM_UP_PROMPT, 8, performance.now());
    const run = await drive(
      options.requests,
      options.concurrency,
      arrivals,
      (index, dueMs) => ask(order[index]!, options.maxTokens, dueMs),
      interrupt.signal,
    );
    const results = loadResults(run, { ttftMs: options.sloTtftMs, tpotMs: options.sloTpotMs });
    const { apiKey: _, json, ...settings } = options;
    publish(
      finish({
        settings: { ...settings, model },
        ...loadFindings(results, run, options.maxTokens, prompts.length),
      }),
      json,
    );
    if (results.failed > 0 || results.completed === 0) process.exitCode = 1;
  } finally {
    process.removeListener("SIGINT", onInterrupt);
    client.close();
  }
}
