import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { Piscina } from "piscina";
import type { EncodeReply, EncodeTask } from "./encode-worker.js";

/** Threads that encode, a piscina. They are told of a model by a task. */
export type EncoderPool = Piscina<EncodeTask, EncodeReply>;

/** Of each encoding thread's heap: a prompt's words and ids, gone with the prompt. */
const YOUNG_GENERATION_MB = 6;
/**
 * Threads that encode. Each takes some 15 MB, and a thousand tokens take it less than a millisecond: a second one, started
 * when prompts queue up, is for machines with cores and memory to spare.
 */
const MOST_THREADS = availableParallelism() >= 8 ? 2 : 1;
/** Prompts waiting for a thread; one more is refused with `overloaded`. More than any scheduler admits. */
export const MOST_QUEUED = 4096;

let ahead: EncoderPool | undefined;

/** Starts a pool for the model to come, for a start that has other things to do first. It keeps no process alive. */
export function startEncodersAhead(): void {
  ahead ??= encoders();
}

/** The pool that was started ahead, or a new one. */
export function takeEncoders(): EncoderPool {
  const taken = ahead ?? encoders();
  ahead = undefined;
  return taken;
}

function encoders(): EncoderPool {
  const pool: EncoderPool = new Piscina({
    filename: fileURLToPath(new URL("./encode-worker.js", import.meta.url)),
    minThreads: 1,
    maxThreads: MOST_THREADS,
    idleTimeout: 60_000,
    maxQueue: MOST_QUEUED,
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
  });
  // A thread that fails: whoever encodes with it is told.
  pool.on("error", () => undefined);
  return pool;
}
