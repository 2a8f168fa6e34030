import * as z from "zod";
import type { RequestClass } from "./generation.js";

/**
 * What a request may ask of generation, checked once for all doors. HTTP and WebSocket spell the names as
 * OpenAI does (`max_tokens`), the embedding API as TypeScript does (`maxTokens`).
 */
export interface Parameters {
  readonly maxTokens: number | undefined;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly repetitionPenalty: number;
  readonly seed: number | undefined;
  readonly stops: readonly string[];
  readonly logitBias: ReadonlyMap<number, number>;
  /** -1: none. */
  readonly logprobs: number;
  readonly minTokens: number;
  readonly ignoreEos: boolean;
  readonly class: RequestClass;
  /** Whose share it is served from; undefined: nobody's in particular. */
  readonly tenant: string | undefined;
  /** Who may share its cached prefixes; undefined: all who name none. */
  readonly cacheSalt: string | undefined;
  readonly deadlineMs: number;
}

/** Most likeliest tokens reported a token. */
export const MOST_LOGPROBS = 20;
const MOST_STOPS = 4;
/** Text held back is at most a stop string long: bounds what a stream lags behind. */
const LONGEST_STOP = 1024;
/** OpenAI's own limit is near this; a bias is applied at each step. */
const MOST_BIASES = 1024;
/** A name or an identifier, not a text. */
const LONGEST_TENANT = 512;
const DAY_MS = 24 * 60 * 60 * 1000;

/** The engine computes in 32 bits, where less would be 0. A share so small keeps the likeliest token alone. */
const LEAST_TOP_P = 1e-30;

/** Text that can be written as UTF-8. */
export const wellFormedText = z.string().refine((text) => !/\p{Surrogate}/u.test(text), {
  params: { code: "invalid_utf8" },
  error: "has an unpaired surrogate",
});

const tokenCount = z.int().min(1).max(0x7fffffff);
const stop = wellFormedText.pipe(z.string().min(1, "must not be empty").max(LONGEST_STOP));

/** Fields with null or absent read as undefined. */
export function maybe<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

function or<T extends z.ZodType>(schema: T, otherwise: z.output<T>) {
  return schema.nullish().transform((value): z.output<T> => value ?? otherwise);
}

/** One check a parameter, whatever its spelling. */
export const checks = {
  maxTokens: maybe(tokenCount),
  temperature: or(z.number().min(0).max(2), 1),
  topP: or(
    z
      .number()
      .gt(0)
      .max(1)
      .transform((p) => Math.max(p, LEAST_TOP_P)),
    1,
  ),
  topK: or(
    z
      .int()
      .min(-1)
      .max(0x7fffffff)
      .transform((k) => Math.max(k, 0)),
    0,
  ),
  minP: or(z.number().min(0).max(1), 0),
  presencePenalty: or(z.number().min(-2).max(2), 0),
  frequencyPenalty: or(z.number().min(-2).max(2), 0),
  repetitionPenalty: or(z.number().min(0.01).max(10), 1),
  seed: maybe(z.int()),
  stops: z
    .union([stop, z.array(stop).max(MOST_STOPS)], {
      error: `expected a string or up to ${MOST_STOPS} strings of 1 to ${LONGEST_STOP} characters`,
    })
    .nullish()
    .transform((value) => (typeof value === "string" ? [value] : (value ?? []))),
  logitBias: z
    .record(z.string().regex(/^\d{1,10}$/, "token ids are whole numbers"), z.number().min(-100).max(100))
    .refine((biases) => Object.keys(biases).length <= MOST_BIASES, `has more than ${MOST_BIASES} entries`)
    .nullish()
    .transform((biases) => new Map(Object.entries(biases ?? {}).map(([id, bias]) => [Number(id), bias]))),
  logprobs: or(z.int().min(0).max(MOST_LOGPROBS), -1),
  minTokens: or(z.int().min(0).max(0x7fffffff), 0),
  ignoreEos: or(z.boolean(), false),
  class: maybe(z.enum(["interactive", "offline"])),
  tenant: maybe(wellFormedText.pipe(z.string().max(LONGEST_TENANT))),
  cacheSalt: maybe(wellFormedText.pipe(z.string().max(LONGEST_TENANT))),
  deadlineMs: or(z.number().min(0).max(DAY_MS), 0),
};

/** The parameters that HTTP and WebSocket spell alike; log-probabilities differ by door. */
export const wireParameters = {
  max_tokens: checks.maxTokens,
  max_completion_tokens: checks.maxTokens,
  temperature: checks.temperature,
  top_p: checks.topP,
  top_k: checks.topK,
  min_p: checks.minP,
  presence_penalty: checks.presencePenalty,
  frequency_penalty: checks.frequencyPenalty,
  repetition_penalty: checks.repetitionPenalty,
  seed: checks.seed,
  stop: checks.stops,
  logit_bias: checks.logitBias,
  min_tokens: checks.minTokens,
  ignore_eos: checks.ignoreEos,
  class: checks.class,
  user: checks.tenant,
  cache_salt: checks.cacheSalt,
  deadline_ms: checks.deadlineMs,
};

export type Wire = { readonly [K in keyof typeof wireParameters]: z.output<(typeof wireParameters)[K]> };

/** `logprobs`: -1 none, 0 the drawn token's, n also the n likeliest. */
export function fromWire(wire: Wire, logprobs: number): Parameters {
  return {
    maxTokens: wire.max_completion_tokens ?? wire.max_tokens,
    temperature: wire.temperature,
    topP: wire.top_p,
    topK: wire.top_k,
    minP: wire.min_p,
    presencePenalty: wire.presence_penalty,
    frequencyPenalty: wire.frequency_penalty,
    repetitionPenalty: wire.repetition_penalty,
    seed: wire.seed,
    stops: wire.stop,
    logitBias: wire.logit_bias,
    logprobs,
    minTokens: wire.min_tokens,
    ignoreEos: wire.ignore_eos,
    class: wire.class ?? "interactive",
    tenant: wire.user,
    cacheSalt: wire.cache_salt,
    deadlineMs: wire.deadline_ms,
  };
}
