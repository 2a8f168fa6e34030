import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { resolveModel } from "#streamserve/model/resolve.js";
import { ascending, percentile } from "#streamserve/report/statistics.js";
import { BenchError } from "../bench-error.js";
import { poissonArrivals, seededRandom } from "../load/arrivals.js";
import { chatBody } from "../load/chat-body.js";
import { CompletionClient } from "../load/client.js";
import { readDataset } from "../load/dataset.js";
import type { Outcome } from "../load/measure.js";
import { ServerProcess } from "../memory/server.js";
import { positiveNumber, wholeNumber, withJson } from "../options.js";
import { beginReport, publish } from "../report.js";

interface OverloadOptions {
  readonly model: string;
  readonly seconds: number;
  readonly calibrate: number;
  readonly factor: number;
  readonly maxTokens: number;
  readonly sloTtftMs: number;
  readonly sloTpotMs: number;
  readonly json?: string;
}

interface Answer {
  readonly sentMs: number;
  readonly endedMs: number;
  readonly outcome: Outcome;
}

const TIMEOUT_MS = 120_000;
/** The server's code is compiled and its threads are up after so long, in milliseconds. */
const WARM_UP_MS = 2000;
/** Streams of the closed loop that finds about how much can be served. */
const CLOSED = 16;
/** Shares of that rate at which the peak of goodput is looked for. */
const SHARES = [0.7, 0.85, 1];
/** After the load: one request so often, until the last of so many. */
const PROBE_MS = 250;
const PROBES = 12;
const SAMPLE_MS = 250;
/** What must hold. */
const MOST_REFUSAL_MS = 50;
const MOST_RECOVERY_MS = 2000;
const LEAST_GOODPUT = 0.9;

export function addOverloadCommand(program: Command): void {
  const command = program
    .command("overload")
    .description("finds what our server can take, sends several times that, and watches it recover")
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--seconds <n>", "length of the overload", positiveNumber(600), 60)
    .option("--calibrate <n>", "seconds at each rate while the peak is looked for", positiveNumber(120), 8)
    .option("--factor <n>", "times the peak that is sent", positiveNumber(100), 5)
    .option("--max-tokens <n>", "output tokens of each request", wholeNumber(2, 1024), 32)
    .option("--slo-ttft-ms <n>", "objective: milliseconds to the first token", positiveNumber(60_000), 1000)
    .option("--slo-tpot-ms <n>", "objective: milliseconds a token after it", positiveNumber(60_000), 60);
  withJson(command).action(runOverload);
}

async function runOverload(options: OverloadOptions): Promise<void> {
  const finish = beginReport("overload");
  const path = await resolveModel(options.model);
  const prompts = readDataset("alpaca");
  const server = await ServerProcess.start([
    ...["--model", path],
    ...["--set", `scheduler.interactive.ttftMs=${options.sloTtftMs}`],
    ...["--set", `scheduler.interactive.tpotMs=${options.sloTpotMs}`],
  ]);
  const client = new CompletionClient(server.url, undefined, TIMEOUT_MS);
  const forever = new AbortController().signal;
  const random = seededRandom(5);
  let sent = 0;
  try {
    const model = await client.firstModel();
    const send = async (): Promise<Answer> => {
      // A number before the prompt, so that no prefix is cached.
      const prompt = `${sent}. ${prompts[sent++ % prompts.length]!}`;
      const sentMs = performance.now();
      const outcome = await client.complete(chatBody(model, prompt, options.maxTokens), sentMs, forever);
      return { sentMs, endedMs: performance.now(), outcome };
    };
    await closedLoop(send, WARM_UP_MS);
    const closed = await closedLoop(send, options.calibrate * 1000);
    const peaks: { rate: number; goodput: number }[] = [];
    for (const share of SHARES) {
      const rate = closed * share;
      const answers = await openLoop(send, rate, options.calibrate, random);
      peaks.push({ rate, goodput: good(answers, options).length / options.calibrate });
    }
    const peak = Math.max(...peaks.map(({ goodput }) => goodput));
    if (peak === 0) {
      throw new BenchError("No request met the objectives: raise --slo-ttft-ms or --slo-tpot-ms.");
    }
    const before = server.resident().total;
    const memory: number[] = [];
    const sampler = setInterval(() => memory.push(server.resident().total), SAMPLE_MS);
    const overload = openLoop(send, peak * options.factor, options.seconds, random);
    await delay(options.seconds * 1000);
    const overMs = performance.now();
    clearInterval(sampler);
    const probes = await probe(send, overMs);
    const answers = await overload;
    const after = server.resident().total;

    const refusals = answers.filter(isRefusal);
    const failures = answers.filter((answer) => !answer.outcome.ok && !isRefusal(answer));
    const refusedMs = ascending(refusals.map(({ sentMs, endedMs }) => endedMs - sentMs));
    const taken = answers.filter(({ outcome }) => outcome.ok);
    const held = good(answers, options).length / options.seconds;
    const late = probes.filter((answer) => good([answer], options).length === 0);
    const recoveryMs = late.length === 0 ? 0 : Math.max(...late.map(({ endedMs }) => endedMs)) - overMs;
    const half = memory.slice(Math.floor(memory.length / 2));
    const growth =
      Math.max(...half, after) - Math.max(before, ...memory.slice(0, Math.ceil(memory.length / 2)));
    const p99 = percentile(refusedMs, 99);
    const timeline = bySecond(answers, options);
    publish(
      finish({
        settings: { ...options, json: undefined },
        tables: [
          {
            title: `Goodput: requests a second with TTFT within ${options.sloTtftMs} ms and TPOT within ${options.sloTpotMs} ms`,
            columns: ["", "sent/s", "good/s", "% of the peak"],
            rows: [
              ...peaks.map(({ rate, goodput }) => ["", rate, goodput, (goodput / peak) * 100]),
              [`overload, ${options.seconds} s`, peak * options.factor, held, (held / peak) * 100],
            ],
          },
          {
            title: "In the overload",
            columns: ["", ""],
            rows: [
              ["requests", answers.length],
              ["served", taken.length],
              ["of them within both objectives, %", (good(answers, options).length / taken.length) * 100],
              ["TTFT of those served, ms, p50 | p99", twoOf(taken, "ttftMs")],
              ["TPOT of those served, ms, p50 | p99", twoOf(taken, "tpotMs")],
              ["refused", refusals.length],
              ["failed otherwise", failures.length],
              ["told of the refusal, ms, p50", percentile(refusedMs, 50)],
              ["told of the refusal, ms, p99", p99],
              ["told of the refusal, ms, most", percentile(refusedMs, 100)],
              ["resident memory before, MB", before / 1e6],
              ["growth from the first half to the second, MB", growth / 1e6],
              ["recovery after its end, ms", recoveryMs],
            ],
          },
        ],
        notes: [
          ...new Set(
            failures.map(({ outcome }) => (outcome.ok ? "" : `${outcome.code}: ${outcome.message}`)),
          ),
        ],
        results: { closed, peaks, peak, held, refusedMs, memory, recoveryMs, timeline },
        figures: [
          {
            kind: "lines",
            title: `An overload of ${options.factor} times the peak`,
            valueLabel: "requests a second",
            xLabel: "seconds",
            logarithmic: false,
            series: [
              { name: "sent", points: timeline.map(({ second, sent }) => [second, sent]) },
              { name: "within objectives", points: timeline.map(({ second, good }) => [second, good]) },
              { name: "refused", points: timeline.map(({ second, refused }) => [second, refused]) },
            ],
          },
        ],
      }),
      options.json,
    );
    const wrong = held < LEAST_GOODPUT * peak || p99 > MOST_REFUSAL_MS || recoveryMs > MOST_RECOVERY_MS;
    if (wrong || failures.length > 0) process.exitCode = 1;
  } finally {
    client.close();
    await server.stop();
  }
}

function twoOf(answers: readonly Answer[], what: "ttftMs" | "tpotMs"): string {
  const values = ascending(answers.flatMap(({ outcome }) => (outcome.ok ? [outcome[what]] : [])));
  return `${percentile(values, 50).toFixed(1)} | ${percentile(values, 99).toFixed(1)}`;
}

interface Second {
  readonly second: number;
  readonly sent: number;
  readonly good: number;
  readonly refused: number;
  /** Longest time that a refusal took, in milliseconds. */
  readonly slowestMs: number;
}

/** What came of the requests sent in each second. */
function bySecond(answers: readonly Answer[], options: OverloadOptions): Second[] {
  const beganMs = answers[0]?.sentMs ?? 0;
  const secondOf = ({ sentMs }: Answer) => Math.floor((sentMs - beganMs) / 1000);
  return Array.from({ length: 1 + Math.max(0, ...answers.map(secondOf)) }, (_, second) => {
    const here = answers.filter((answer) => secondOf(answer) === second);
    const refused = here.filter(isRefusal);
    const slowestMs = Math.max(0, ...refused.map(({ sentMs, endedMs }) => endedMs - sentMs));
    return {
      second,
      sent: here.length,
      good: good(here, options).length,
      refused: refused.length,
      slowestMs,
    };
  });
}

/** Requests a second with a fixed number under way, at the server's best. */
async function closedLoop(send: () => Promise<Answer>, forMs: number): Promise<number> {
  const beganMs = performance.now();
  let done = 0;
  const stream = async (): Promise<void> => {
    while (performance.now() - beganMs < forMs) if ((await send()).outcome.ok) done++;
  };
  await Promise.all(Array.from({ length: CLOSED }, stream));
  return (done * 1000) / (performance.now() - beganMs);
}

/** Requests at Poisson arrivals, whether the server keeps up or not. */
async function openLoop(
  send: () => Promise<Answer>,
  perSecond: number,
  seconds: number,
  random: () => number,
): Promise<Answer[]> {
  const arrivals = poissonArrivals(Math.ceil(perSecond * seconds * 1.2), perSecond, random);
  const beganMs = performance.now();
  const answers: Promise<Answer>[] = [];
  for (const at of arrivals) {
    if (at > seconds * 1000) break;
    const waitMs = beganMs + at - performance.now();
    if (waitMs > 0) await delay(waitMs);
    answers.push(send());
  }
  return Promise.all(answers);
}

/** A request now and then, once the load is over. */
async function probe(send: () => Promise<Answer>, fromMs: number): Promise<Answer[]> {
  const answers: Promise<Answer>[] = [];
  for (let i = 0; i < PROBES; i++) {
    await delay(Math.max(0, fromMs + i * PROBE_MS - performance.now()));
    answers.push(send());
  }
  return Promise.all(answers);
}

function good(answers: readonly Answer[], { sloTtftMs, sloTpotMs }: OverloadOptions): readonly Answer[] {
  return answers.filter(
    ({ outcome }) => outcome.ok && outcome.ttftMs <= sloTtftMs && outcome.tpotMs <= sloTpotMs,
  );
}

function isRefusal({ outcome }: Answer): boolean {
  return !outcome.ok && /overloaded|rate_limited/.test(outcome.code);
}
