import { mix } from "../../engine/simulated-model.js";
import { Random } from "../random.js";
import { type Arrivals, arrivalTimes } from "./arrivals.js";
import type { ServingRequest, Workload } from "./serving.js";
import { mixedTexts, plainTexts, randomTokens, recordedTexts, type TextSource } from "./texts.js";
import { readTrace, type TraceRequest } from "./trace.js";

/** A recorded set by name or path, its answers cut at `maxTokens`, or texts of so many prompt and output tokens; and its weight in the mix. */
export type SetShare = { readonly weight: number } & (
  | { readonly recorded: string; readonly maxTokens: number }
  | { readonly promptTokens: number; readonly outputTokens: number }
);

/** Requests that come whether the server keeps up or not. */
export interface OpenLoad {
  readonly arrivals: Arrivals;
  readonly perSecond: number;
  readonly count: number;
  readonly sets: readonly SetShare[];
  readonly seed: number;
}

/** Users who wait for an answer, think, and ask again. */
export interface ClosedLoad {
  readonly users: number;
  readonly thinkMs: number;
  readonly count: number;
  readonly sets: readonly SetShare[];
  readonly seed: number;
}

/** The requests of a trace file; where the answers' texts come from. */
export interface TraceLoad {
  readonly file: string;
  /** How many times faster than recorded. */
  readonly speed: number;
  /** Requests of the file's beginning, at most. */
  readonly count: number;
  readonly blockTokens: number;
  /** Answers say what was recorded in these sets, over and over, to the length of the trace; without: nothing that drafts foretell. */
  readonly sets: readonly SetShare[];
  readonly seed: number;
}

/** Throws `config_invalid` for a set that can't be read. */
export function openWorkload({ arrivals, perSecond, count, sets, seed }: OpenLoad): Workload {
  const random = new Random(seed);
  const times = arrivalTimes(arrivals, perSecond, count, random.fork());
  const next = textsOf(sets, random.fork());
  return { requests: times.map((atMs) => ({ atMs, ...next() })) };
}

/** Throws as `openWorkload` does. */
export function closedWorkload({ users, thinkMs, count, sets, seed }: ClosedLoad): Workload {
  const random = new Random(seed);
  const next = textsOf(sets, random.fork());
  return { requests: Array.from({ length: count }, () => ({ atMs: 0, ...next() })), users, thinkMs };
}

/** Throws `trace_invalid`, or as `openWorkload` does. */
export function traceWorkload({ file, speed, count, blockTokens, sets, seed }: TraceLoad): Workload {
  const random = new Random(seed);
  const next = sets.length > 0 ? textsOf(sets, random.fork()) : undefined;
  const trace = readTrace(file).slice(0, count);
  const firstAt = trace[0]!.atMs;
  return {
    requests: trace.map((request, number): ServingRequest => {
      const answer = next?.().text;
      return {
        atMs: (request.atMs - firstAt) / speed,
        set: "trace",
        promptTokens: Math.max(1, request.inputTokens),
        outputTokens: Math.max(1, request.outputTokens),
        text: () => ({
          prompt: spelt(request, blockTokens, mix(seed, number)),
          ...(answer ? { answer: answer().answer ?? [] } : {}),
        }),
      };
    }),
  };
}

/** A prompt whose blocks are equal where the trace's are. */
function spelt({ inputTokens, chain }: TraceRequest, blockTokens: number, own: number): Uint32Array {
  const prompt = randomTokens(Math.max(1, inputTokens), own);
  for (const [i, id] of chain.entries()) {
    const from = i * blockTokens;
    if (from >= prompt.length) break;
    prompt.set(randomTokens(Math.min(blockTokens, prompt.length - from), mix(id, 0x51ed)), from);
  }
  return prompt;
}

function textsOf(sets: readonly SetShare[], random: Random) {
  const sources = sets.map((set): { source: TextSource; weight: number } => ({
    weight: set.weight,
    source:
      "recorded" in set
        ? recordedTexts(set.recorded, set.maxTokens, random.fork())
        : plainTexts(set.promptTokens, set.outputTokens, random.fork()),
  }));
  return mixedTexts(sources, random.fork());
}
