import * as z from "zod";
import type { StepCostModel } from "../../engine/simulated-cost.js";
import { StreamServeError } from "../../errors.js";

/** What the simulated machine is: how long its steps and hand-offs take, and how much KV it holds. */

const positive = z.number().positive();
const count = z.number().int().positive();
const cost = z.number().nonnegative();

/** Milliseconds: see `StepCostModel`. */
const step = z.strictObject({
  baseMs: cost,
  rowMs: cost,
  tokenMs: positive,
  contextMs: cost,
  readMs: cost,
  /** Measured times of steps of one row without context, by new tokens; between them straight lines. */
  points: z
    .array(z.strictObject({ tokens: count, ms: positive }))
    .min(2)
    .optional(),
});

export const hardwareSchema = z.strictObject({
  name: z.string().min(1),
  about: z.string(),
  step,
  /** Of decode lanes, where they differ from prefill's. */
  decodeStep: step.optional(),
  /** How KV gets from a prefill lane to its decode lane; absent: both share a pool and nothing moves. */
  handOff: z
    .strictObject({
      bytesPerToken: count,
      gigabytesPerSecond: positive,
      latencyMs: cost,
    })
    .optional(),
  /** Tokens of a KV pool. */
  kvTokens: count,
  /** Each pair has a pool of its own; else all lanes share one. */
  ownPools: z.boolean(),
  contextTokens: count,
  /**
   * How many times longer a step takes while lanes of the other kind compute on the same cores: then those of one machine,
   * shared by the lanes of all pairs. 1: each lane has its own.
   */
  sharedFactor: z.number().min(1),
  /** The same of a prefill step; absent: `sharedFactor`. */
  prefillSharedFactor: z.number().min(1).optional(),
  /**
   * What the actors take where they have no cores of their own, in milliseconds: of a decode step, for each of its new
   * tokens after the first, and of a request's way to its lane. Absent: nothing.
   */
  actors: z.strictObject({ stepMs: cost, tokenMs: cost, requestMs: cost }).optional(),
  /** Keys of the configuration that such a machine is served with. */
  config: z.record(z.string(), z.unknown()).default({}),
});

export type HardwareProfile = z.output<typeof hardwareSchema>;

/** What steps of a kind of lane cost, with what actors take of their cores. */
export function stepCostOf(hardware: HardwareProfile, role: "prefill" | "decode"): StepCostModel {
  const { name, step, decodeStep, actors } = hardware;
  const cost = role === "decode" ? (decodeStep ?? step) : step;
  if (role === "prefill" || !actors) return { source: name, ...cost };
  const { stepMs, tokenMs } = actors;
  return {
    source: name,
    ...cost,
    baseMs: cost.baseMs + stepMs - tokenMs,
    tokenMs: cost.tokenMs + tokenMs,
    points: cost.points?.map(({ tokens, ms }) => ({ tokens, ms: ms + stepMs + tokenMs * (tokens - 1) })),
  };
}

/** Checks plain data; throws `config_invalid` that names `from` and the key. */
export function checkHardware(data: unknown, from: string): HardwareProfile {
  const parsed = hardwareSchema.safeParse(data);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const key = issue?.path.join(".") ?? "";
  throw new StreamServeError("config_invalid", `${from}: "${key}" can't be used: ${issue?.message}.`, {
    key,
  });
}
