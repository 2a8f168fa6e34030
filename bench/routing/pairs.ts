import type * as z from "zod";
import { type Config, configSchema } from "#streamserve/config/schema.js";
import { GREEDY } from "#streamserve/engine/engine.js";
import { House } from "#streamserve/simulate/house.js";
import { HandOffLinks, handOffMs } from "#streamserve/simulate/serving/hand-off.js";
import { stepCostOf } from "#streamserve/simulate/serving/hardware.js";
import { loadHardware } from "#streamserve/simulate/serving/load-hardware.js";
import { BenchError } from "../bench-error.js";
import { type RoutedRequest, VOCABULARY } from "./scenarios.js";

export type Settings = z.input<typeof configSchema>;

const BLOCK_TOKENS = 32;
const A800 = loadHardware("a800-7b");
/** A run whose virtual clock passes the last arrival by so much is stuck. */
const PATIENCE_MS = 600_000;

/** The configuration of so many pairs of A800s, each pair with a KV pool of its own, and what is to differ. */
export function a800Pairs(pairs: number, settings: Settings): Config {
  const { router, scheduler, speculation, prefill, decode, ...more } = settings;
  return configSchema.parse({
    pairs,
    engine: { kvTokens: A800.kvTokens * pairs, contextTokens: A800.contextTokens },
    prefill: { maxRows: 16, maxBatchTokens: 2048, ...prefill },
    decode: { maxRows: 128, maxBatchTokens: 512, ...decode },
    scheduler: { maxWaiting: 100_000, maxRunning: 100_000, ...scheduler },
    // A CPU's defaults would mislead it for the first requests.
    router: {
      unknownTokenMs: 0.1,
      unknownStepMs: 9,
      rowShare: 0.01,
      handOffBlockMs: handOffMs(A800, BLOCK_TOKENS),
      ...router,
    },
    speculation: { ...speculation },
    runtime: { ringBytes: 1 << 22, promptSlabBytes: 1 << 28 },
    ...more,
  });
}

/** What became of a request, on the virtual clock, in milliseconds. */
export interface SimulatedRequest {
  readonly cameMs: number;
  readonly endedMs: number;
  /** NaN when there was no first, or no second, token. */
  readonly firstTokenMs: number;
  readonly tokenMs: number;
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** `done`, or the error's code. */
  readonly outcome: string;
}

export interface Circumstances {
  /** How many times longer the steps of a pair take; 1 when absent. */
  readonly slowness?: ((pair: number) => number) | undefined;
  /** Share of positions where the next token follows from the last alone. */
  readonly draftability: number;
  /** Tokens there are: the fewer, the sooner a suffix comes again. */
  readonly vocabulary?: number;
}

/** Serves the requests with the real actors over simulated A800 pairs. Throws BenchError when some do not end. */
export function servePairs(
  config: Config,
  requests: readonly RoutedRequest[],
  { slowness, draftability, vocabulary = VOCABULARY }: Circumstances,
): SimulatedRequest[] {
  const links = new HandOffLinks(A800.handOff);
  const house = new House({
    config,
    model: { seed: 7, vocabulary, draftability },
    cost: stepCostOf(A800, "prefill"),
    contextTokens: A800.contextTokens,
    ownPools: true,
    simulation: { seed: 1, transitMs: (from, to, message, now) => links.transitMs(from, to, message, now) },
    disturbances: ({ name }) => {
      const factor = slowness?.(Number(name.split(".")[1] ?? 0)) ?? 1;
      return { slowdown: () => factor };
    },
  });
  const sim = house.simulation;
  const served: SimulatedRequest[] = [];
  for (const request of requests) {
    const cameMs = 1 + request.atMs;
    const ended = (outcome: string, more: Partial<SimulatedRequest> = {}): void => {
      const nothing = { firstTokenMs: Number.NaN, tokenMs: Number.NaN, outputTokens: 0, cachedTokens: 0 };
      const promptTokens = request.prompt.length;
      served.push({ cameMs, endedMs: sim.now, promptTokens, outcome, ...nothing, ...more });
    };
    sim.at(cameMs, () => {
      house.gateway.generate(
        {
          prompt: request.prompt,
          maxTokens: request.outputTokens,
          sampling: GREEDY,
          class: "interactive",
          deadlineMs: 0,
          credit: Number.POSITIVE_INFINITY,
        },
        {
          tokens: () => {},
          done: ({ timings: { firstTokenMs, totalMs }, outputTokens, cachedTokens }) => {
            const tokenMs = (totalMs - firstTokenMs) / (outputTokens - 1);
            ended("done", { firstTokenMs, tokenMs, outputTokens, cachedTokens });
          },
          failed: (error) => ended(error.code),
        },
      );
    });
  }
  const until = (requests.at(-1)?.atMs ?? 0) + PATIENCE_MS;
  while (served.length < requests.length && sim.now < until && sim.step());
  if (served.length < requests.length) {
    throw new BenchError(`${requests.length - served.length} simulated requests did not end.`);
  }
  return served;
}
