import { randomInt } from "node:crypto";
import type { Sampling } from "../engine/engine.js";
import { StreamServeError } from "../errors.js";
import type { ChatMessage } from "../model/model.js";
import type { ServingCore } from "./core.js";
import type { TextRequest } from "./generate-text.js";
import type { ServiceInfo } from "./generation.js";
import type { Parameters } from "./parameters.js";
import { refuse } from "./validation.js";

/** What to continue: a chat, raw text, or token ids. */
export type Prompt =
  | { readonly messages: readonly ChatMessage[] }
  | { readonly text: string }
  | { readonly ids: ArrayLike<number> };

/** Seeds are taken modulo this. */
const SEEDS = 2 ** 53;

/** Token ids of a prompt. Throws `empty_prompt`, or `invalid_parameter` for ids outside the vocabulary. */
export async function encodePrompt(
  core: Pick<ServingCore, "service" | "codec">,
  prompt: Prompt,
): Promise<Uint32Array> {
  if ("messages" in prompt) {
    if (prompt.messages.length === 0) {
      throw refuse("messages", "'messages' is empty: give at least one message.", "empty_prompt");
    }
    return naming(core, "messages", core.codec.encodeChat(prompt.messages));
  }
  const ids =
    "text" in prompt
      ? await naming(core, "prompt", core.codec.encode(prompt.text, true))
      : tokenIds(core, prompt.ids);
  if (ids.length === 0)
    throw refuse("prompt", "'prompt' is empty: give at least one token of text.", "empty_prompt");
  return ids;
}

/** The tokenizer knows what is wrong with a text, but neither its field nor the context that is configured. */
async function naming<T>(
  { service }: Pick<ServingCore, "service">,
  param: string,
  encoding: Promise<T>,
): Promise<T> {
  try {
    return await encoding;
  } catch (error) {
    if (!(error instanceof StreamServeError) || error.status !== 400) throw error;
    const { promptTokens } = error.details;
    if (error.code !== "prompt_too_long" || typeof promptTokens !== "number") {
      throw refuse(param, error.message, error.code, error.details);
    }
    const { contextTokens } = service.info;
    throw refuse(
      param,
      `The prompt has at least ${promptTokens} tokens, but ${whatHolds(service.info)}: shorten the prompt.`,
      error.code,
      { promptTokens, contextTokens },
    );
  }
}

function tokenIds(core: Pick<ServingCore, "service">, ids: ArrayLike<number>): Uint32Array {
  const { vocabulary } = core.service.info;
  const wrong = Array.prototype.find.call(
    ids,
    (id: number) => !(Number.isInteger(id) && id >= 0 && id < vocabulary),
  );
  if (wrong !== undefined) {
    throw refuse(
      "prompt",
      `'prompt' holds ${String(wrong)}, which is not a token id: ids are 0 to ${vocabulary - 1}.`,
    );
  }
  return Uint32Array.from(ids);
}

/** How a door spells the fields that errors name. */
export interface FieldNames {
  readonly maxTokens: string;
  readonly logitBias: string;
}

export const WIRE_NAMES: FieldNames = { maxTokens: "max_tokens", logitBias: "logit_bias" };
export const OPTION_NAMES: FieldNames = { maxTokens: "maxTokens", logitBias: "logitBias" };

export interface PrepareOptions {
  readonly names: FieldNames;
  /** The field that the prompt came in. */
  readonly source: "messages" | "prompt";
  /** Output tokens when the request names no limit. */
  readonly defaultMaxTokens: number;
  /** Tokens that may come before the first grant. */
  readonly credit: number;
}

/**
 * Joins a prompt and its parameters into a request that fits the context. Throws `prompt_too_long` with the
 * numbers when it does not: nothing is cut silently.
 */
export function prepare(
  core: Pick<ServingCore, "service" | "codec">,
  prompt: Uint32Array,
  parameters: Parameters,
  options: PrepareOptions,
): TextRequest {
  const { info } = core.service;
  const { contextTokens, vocabulary } = info;
  const room = contextTokens - prompt.length;
  const { maxTokens } = parameters;
  if (room < (maxTokens ?? 1)) throw tooLong(prompt.length, maxTokens, info, options);
  for (const id of parameters.logitBias.keys()) {
    if (id < vocabulary) continue;
    const { logitBias } = options.names;
    throw refuse(logitBias, `'${logitBias}' names token ${id}: ids are 0 to ${vocabulary - 1}.`);
  }
  return {
    prompt,
    maxTokens: maxTokens ?? Math.min(options.defaultMaxTokens, room),
    sampling: sampling(parameters, core.codec.stopIds),
    class: parameters.class,
    ...(parameters.tenant === undefined ? {} : { tenant: parameters.tenant }),
    ...(parameters.cacheSalt === undefined ? {} : { cacheSalt: parameters.cacheSalt }),
    deadlineMs: parameters.deadlineMs,
    credit: options.credit,
    stops: parameters.stops,
  };
}

/** What bounds prompt and output, in words that say what could be changed. */
function whatHolds({ contextTokens, kvTokens }: ServiceInfo): string {
  return kvTokens > contextTokens
    ? `the context holds ${contextTokens}`
    : `the KV pool holds ${contextTokens} (engine.kvTokens)`;
}

function tooLong(
  promptTokens: number,
  maxTokens: number | undefined,
  info: ServiceInfo,
  { names, source }: PrepareOptions,
): StreamServeError {
  const { contextTokens } = info;
  const numbers = { promptTokens, contextTokens };
  const prompt = `The prompt has ${promptTokens} ${promptTokens === 1 ? "token" : "tokens"}`;
  const context = whatHolds(info);
  if (maxTokens === undefined || promptTokens >= contextTokens) {
    return refuse(source, `${prompt}, but ${context}: shorten the prompt.`, "prompt_too_long", numbers);
  }
  return refuse(
    names.maxTokens,
    `${prompt} and ${names.maxTokens} asks for ${maxTokens}, but ${context}: ask for at most ${contextTokens - promptTokens}.`,
    "prompt_too_long",
    { ...numbers, maxTokens },
  );
}

function sampling(parameters: Parameters, stopIds: readonly number[]): Sampling {
  const { temperature, topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty } = parameters;
  return {
    temperature,
    topK,
    topP,
    minP,
    repetitionPenalty,
    presencePenalty,
    frequencyPenalty,
    seed: parameters.seed === undefined ? randomInt(2 ** 48 - 1) : nthSeed(parameters.seed, 0),
    logitBias: parameters.logitBias,
    stopIds,
    minTokens: parameters.ignoreEos ? 0x7fffffff : parameters.minTokens,
    logprobs: parameters.logprobs,
  };
}

/** The seed of the n-th of several choices: each draws its own noise. Exact: no sum here exceeds 2^53. */
export function nthSeed(seed: number, n: number): number {
  const first = seed < 0 ? seed + SEEDS : seed;
  return first >= SEEDS - n ? first - (SEEDS - n) : first + n;
}
