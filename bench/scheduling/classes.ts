import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { configSchema } from "#streamserve/config/schema.js";
import type { ServingCore } from "#streamserve/gateway/core.js";
import { openCore } from "#streamserve/gateway/open-core.js";
import { resolveModel } from "#streamserve/model/resolve.js";
import { ascending, percentile } from "#streamserve/report/statistics.js";
import { seededRandom } from "../load/arrivals.js";
import { positiveNumber, wholeNumber, withJson } from "../options.js";
import { beginReport, publish, type Table } from "../report.js";
import { firstTokenMs, openStream, randomPrompt, type StreamRecord } from "./stream.js";

interface ClassesOptions {
  readonly model: string;
  readonly seconds: number;
  readonly offline: number;
  readonly json?: string;
}

const INTERACTIVE = { promptTokens: 128, maxTokens: 48 };
const OFFLINE = { promptTokens: 128, maxTokens: 96 };
/** Mean pause between two interactive requests, in milliseconds: the machine is idle for about half the time. */
const PAUSE_MS = 400;
/** The tenants' requests, and how many each has under way. */
const TENANT = { promptTokens: 64, maxTokens: 32 };
const BUSY = 40;
const CALM = 4;
/** Places, so that tenants have to wait for them. */
const PLACES = 4;
/** A share is measured once both have waited for so long. */
const SETTLE_MS = 1000;

export function addClassesCommand(program: Command): void {
  const command = program
    .command("classes")
    .description(
      "offline work under interactive requests, and two tenants of which one sends ten times as much",
    )
    .option("--model <name>", "catalogue name or .gguf file", "smollm2-135m-instruct")
    .option("--seconds <n>", "length of each of the four runs", positiveNumber(600), 20)
    .option("--offline <n>", "offline requests under way", wholeNumber(1, 64), 8);
  withJson(command).action(runClasses);
}

/** What came of a run: each class's answers, and how long interactive requests were under way. */
interface Mixed {
  readonly interactive: readonly StreamRecord[];
  readonly offlineTokens: number;
  readonly ms: number;
}

async function runClasses(options: ClassesOptions): Promise<void> {
  const finish = beginReport("classes");
  const path = await resolveModel(options.model);
  const open = (scheduler: object): Promise<ServingCore> =>
    openCore(configSchema.parse({ model: path, speculation: { maxDepth: 0 }, scheduler }));
  const core = await open({});
  let alone: Mixed;
  let idle: Mixed;
  let mixed: Mixed;
  let stepMs: number;
  try {
    await mix(core, 2, true, options.offline);
    core.actors.traces();
    alone = await mix(core, options.seconds, true, 0);
    core.actors.setTracing(true);
    core.actors.traces();
    idle = await mix(core, options.seconds, false, options.offline);
    const spans = core.actors.traces().filter(({ name }) => name === "prefill" || name === "decode");
    core.actors.setTracing(false);
    stepMs = percentile(ascending(spans.map(({ start, end }) => end - start)), 99);
    mixed = await mix(core, options.seconds, true, options.offline);
  } finally {
    await core.close();
  }
  const shares = await open({ maxRunning: PLACES });
  let tenants: { busy: number; calm: number };
  try {
    tenants = await share(shares, options.seconds);
  } finally {
    await shares.close();
  }
  const idleShare = 1 - busyMs(mixed) / mixed.ms;
  const rate = ({ offlineTokens, ms }: Mixed) => (offlineTokens * 1000) / ms;
  const fill = rate(mixed) / (rate(idle) * idleShare);
  const p99 = ({ interactive }: Mixed) => percentile(ascending(interactive.map(firstTokenMs)), 99);
  const p50 = ({ interactive }: Mixed) => percentile(ascending(interactive.map(firstTokenMs)), 50);
  const most = p99(alone) * 1.1 + stepMs;
  const got = tenants.busy / ((tenants.busy + tenants.calm) / 2);
  const tables: Table[] = [
    {
      title: "Offline work under interactive requests",
      columns: ["", "interactive alone", "offline alone", "both"],
      rows: [
        ["interactive TTFT, ms, p50", p50(alone), "", p50(mixed)],
        ["interactive TTFT, ms, p99", p99(alone), "", p99(mixed)],
        ["interactive requests", alone.interactive.length, "", mixed.interactive.length],
        ["offline tokens/s", "", rate(idle), rate(mixed)],
        ["time without interactive requests, %", "", 100, idleShare * 100],
      ],
    },
    {
      title: "What must be",
      columns: ["", "is", "must be"],
      rows: [
        ["idle capacity filled by offline work, %", fill * 100, ">= 85"],
        [
          `interactive TTFT p99, ms: alone + 10% + one offline step of ${stepMs.toFixed(1)} ms`,
          p99(mixed),
          `<= ${most.toFixed(1)}`,
        ],
        ["share of a tenant with 10 times the requests, of half", got, "<= 1.1"],
      ],
    },
  ];
  publish(
    finish({
      settings: { ...options, json: undefined },
      tables,
      notes: [
        "Idle capacity: what offline work alone computes a second, times the share of time without an interactive request.",
        `Tenants: prompt tokens + twice the output tokens of answers that ended, ${BUSY} and ${CALM} requests under way, ${PLACES} places.`,
      ],
      results: { fill, stepMs, tenants, ttft: { alone: p99(alone), mixed: p99(mixed), most } },
      figures: [],
    }),
    options.json,
  );
  if (!(fill >= 0.85) || !(p99(mixed) <= most) || !(got <= 1.1)) process.exitCode = 1;
}

/** Interactive requests one by one with pauses, and so many offline ones at a time. */
async function mix(
  core: ServingCore,
  seconds: number,
  interactive: boolean,
  offline: number,
): Promise<Mixed> {
  const { service } = core;
  const { vocabulary } = service.info;
  const random = seededRandom(7);
  const beganMs = performance.now();
  const untilMs = beganMs + seconds * 1000;
  const records: StreamRecord[] = [];
  let offlineTokens = 0;
  let counts = true;
  const open = new Set<{ cancel(): void }>();
  const background = Array.from({ length: offline }, async () => {
    while (performance.now() < untilMs) {
      const stream = openStream(service, {
        prompt: randomPrompt(random, OFFLINE.promptTokens, vocabulary),
        maxTokens: OFFLINE.maxTokens,
        class: "offline",
        onTokens: (count) => {
          if (counts) offlineTokens += count;
        },
      });
      open.add(stream);
      await stream.ended;
      open.delete(stream);
    }
  });
  while (interactive && performance.now() < untilMs) {
    await delay(Math.min(untilMs - performance.now(), -Math.log(1 - random()) * PAUSE_MS));
    if (performance.now() >= untilMs) break;
    const prompt = randomPrompt(random, INTERACTIVE.promptTokens, vocabulary);
    records.push(await openStream(service, { prompt, maxTokens: INTERACTIVE.maxTokens }).ended);
  }
  if (!interactive) await delay(seconds * 1000);
  counts = false;
  const ms = performance.now() - beganMs;
  for (const stream of open) stream.cancel();
  await Promise.all(background);
  return { interactive: records, offlineTokens, ms };
}

/** Milliseconds in which an interactive request was under way; they come one at a time. */
function busyMs({ interactive }: Mixed): number {
  return interactive.reduce((sum, { submittedMs, endedMs }) => sum + endedMs - submittedMs, 0);
}

/** Weighted tokens served to two tenants that both always wait. */
async function share(core: ServingCore, seconds: number): Promise<{ busy: number; calm: number }> {
  const { service } = core;
  const random = seededRandom(8);
  const served = { busy: 0, calm: 0 };
  const beganMs = performance.now();
  const untilMs = beganMs + SETTLE_MS + seconds * 1000;
  const loop = async (tenant: "busy" | "calm"): Promise<void> => {
    while (performance.now() < untilMs) {
      const prompt = randomPrompt(random, TENANT.promptTokens, service.info.vocabulary);
      const { endedMs } = await openStream(service, { prompt, maxTokens: TENANT.maxTokens, tenant }).ended;
      const measured = endedMs > beganMs + SETTLE_MS && endedMs <= untilMs;
      if (measured) served[tenant] += TENANT.promptTokens + 2 * TENANT.maxTokens;
    }
  };
  await Promise.all([
    ...Array.from({ length: BUSY }, () => loop("busy")),
    ...Array.from({ length: CALM }, () => loop("calm")),
  ]);
  return served;
}
