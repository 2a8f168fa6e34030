import { setTimeout as delay } from "node:timers/promises";
import { type ServingRuntime, startOver } from "#streamserve/actors/start.js";
import { configSchema } from "#streamserve/config/schema.js";
import { GREEDY } from "#streamserve/engine/engine.js";
import { closeEngine, openEngine } from "#streamserve/engine/native-engine.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";
import { openTextCodec } from "#streamserve/model/text-codec.js";
import { Company } from "../company.js";
import { drawOrder, poissonArrivals, seededRandom } from "../load/arrivals.js";
import { DATASETS, readDataset } from "../load/dataset.js";
import { type Objective, type Outcome, outcomeOf, type Served } from "./outcome.js";
import { type Part, type Substitute, WHOLE } from "./parts.js";
import { type Compared, compareRounds, type Rounds } from "./rounds.js";

/** The four sets through the real engine: every variant has actors of its own over one engine, whose idle threads cost nothing. */

const KV_TOKENS = 65_536;
const MAX_TOKENS = 64;
/** Prompts of each set. */
const PROMPTS = 40;
/** What an interactive user of a small model takes for quick; the whole system is told of it. */
const OBJECTIVE: Objective = { ttftMs: 1000, tpotMs: 60 };
const ADMISSION = { interactive: OBJECTIVE };
/** Streams of the closed loop that finds what can be served. */
const CLOSED = 16;
/** A client that was refused comes back after so long, in milliseconds: about a prompt's time; and so often, at most. */
const RETRY_MS = 100;
const MOST_TRIES = 600;
/** Requests of a run, at least: fewer have no percentiles. */
const LEAST_REQUESTS = 16;
/** Lanes of a deployment take so many numbers in the engine. */
const lanesOf = (pairs: number) => 2 * pairs + 1;

export interface RealOptions extends Rounds {
  readonly threads: number;
  /** Requests of a run at full load. */
  readonly realRequests: number;
  /** Requests a second that the whole system serves; looked for if absent. */
  readonly capacity?: number;
}

interface Prompts {
  readonly prompts: readonly Uint32Array[];
  readonly stopIds: readonly number[];
}

let runs = 0;

export async function compareReal(
  path: string,
  parts: readonly Part[],
  options: RealOptions,
  progress: (text: string) => void,
): Promise<{ compared: Compared[]; capacities: number[]; company: number[]; objective: Objective }> {
  const prompts = await readPrompts(path);
  const engine = openEngine({ path, kvTokens: KV_TOKENS, threads: options.threads });
  const compared: Compared[] = [];
  const capacities: number[] = [];
  const company: number[] = [];
  try {
    for (const part of parts) {
      const opened = new Map<Substitute, ServingRuntime>();
      try {
        for (const rival of [WHOLE, ...part.substitutes]) {
          const config = configSchema.parse({
            model: path,
            pairs: part.pairs,
            // No run finds the prompts of another.
            engine: { isolateTenants: true },
            ...rival.settings,
            scheduler: { ...ADMISSION, ...rival.settings.scheduler },
          });
          opened.set(rival, await startOver(config, engine, lanesOf(part.pairs) * opened.size));
        }
        const service = opened.get(WHOLE)!.service;
        // Compiles, and learns what steps take.
        for (const { service } of opened.values()) await closedLoop(service, prompts, CLOSED);
        const capacity = options.capacity ?? (await closedLoop(service, prompts, options.realRequests));
        capacities.push(capacity);
        const count = Math.max(LEAST_REQUESTS, Math.round(options.realRequests * part.load));
        const measure = (rival: Substitute, round: number) =>
          openLoop(opened.get(rival)!.service, prompts, capacity * part.load, count, round);
        const others = new Company();
        const end = others.begin();
        compared.push(...(await compareRounds(part, options, measure, progress)));
        end();
        company.push(others.cores);
        progress(`${part.name}: measured on the real engine`);
      } finally {
        for (const runtime of opened.values()) await runtime.stop();
      }
    }
  } finally {
    closeEngine(engine.id);
  }
  return { compared, capacities, company, objective: OBJECTIVE };
}

async function readPrompts(path: string): Promise<Prompts> {
  const codec = await openTextCodec(path);
  try {
    const texts = DATASETS.flatMap((set) => readDataset(set).slice(0, PROMPTS));
    const prompts = texts.map((content) => codec.encodeChat([{ role: "user", content }]));
    return { prompts: await Promise.all(prompts), stopIds: codec.stopIds };
  } finally {
    await codec.close();
  }
}

/** Requests answered a second over `count` of them, a fixed number of clients: who is refused tries again soon. */
async function closedLoop(service: GenerationService, set: Prompts, count: number): Promise<number> {
  const tenant = `run ${runs++}`;
  const order = drawOrder(set.prompts, count, seededRandom(1));
  const beganMs = performance.now();
  let answered = 0;
  const stream = async (): Promise<void> => {
    for (let prompt = order.pop(); prompt; prompt = order.pop()) {
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        if ((await send(service, prompt, set.stopIds, tenant)).done) {
          answered++;
          break;
        }
        await delay(RETRY_MS);
      }
    }
  };
  await Promise.all(Array.from({ length: CLOSED }, stream));
  return (answered * 1000) / (performance.now() - beganMs);
}

/** Poisson arrivals, the same for every rival of a round. */
async function openLoop(
  service: GenerationService,
  set: Prompts,
  perSecond: number,
  count: number,
  round: number,
): Promise<Outcome> {
  const tenant = `run ${runs++}`;
  const random = seededRandom(100 + round);
  const order = drawOrder(set.prompts, count, random);
  const beganMs = performance.now();
  const open: Promise<Served>[] = [];
  for (const [i, atMs] of poissonArrivals(count, perSecond, random).entries()) {
    const waitMs = beganMs + atMs - performance.now();
    if (waitMs > 0) await delay(waitMs);
    open.push(send(service, order[i]!, set.stopIds, tenant));
  }
  return outcomeOf(await Promise.all(open), OBJECTIVE);
}

function send(
  service: GenerationService,
  prompt: Uint32Array,
  stopIds: readonly number[],
  tenant: string,
): Promise<Served> {
  const cameMs = performance.now();
  return new Promise((resolve) => {
    service.generate(
      {
        prompt,
        maxTokens: MAX_TOKENS,
        sampling: { ...GREEDY, stopIds },
        class: "interactive",
        tenant,
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      {
        tokens: () => {},
        done: ({ timings: { firstTokenMs, totalMs }, outputTokens }) =>
          resolve({
            cameMs,
            endedMs: cameMs + totalMs,
            firstTokenMs,
            tokenMs: (totalMs - firstTokenMs) / (outputTokens - 1),
            outputTokens,
            done: true,
          }),
        failed: () =>
          resolve({
            cameMs,
            endedMs: performance.now(),
            firstTokenMs: Number.NaN,
            tokenMs: Number.NaN,
            outputTokens: 0,
            done: false,
          }),
      },
    );
  });
}
