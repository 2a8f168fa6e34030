import * as z from "zod";
import type { ChatOptions, CompleteOptions, GenerateOptions } from "../client/text-generation.js";
import type { RequestClass } from "./generation.js";
import { checks, type Parameters, wellFormedText } from "./parameters.js";
import type { Prompt } from "./prepare.js";
import { check } from "./validation.js";

/** Checks of the embedding API's options: the names are TypeScript's, the rules those of all doors. */

const parameters = {
  maxTokens: checks.maxTokens,
  temperature: checks.temperature,
  topP: checks.topP,
  topK: checks.topK,
  minP: checks.minP,
  presencePenalty: checks.presencePenalty,
  frequencyPenalty: checks.frequencyPenalty,
  repetitionPenalty: checks.repetitionPenalty,
  seed: checks.seed,
  stop: checks.stops,
  logitBias: checks.logitBias,
  logprobs: checks.logprobs,
  minTokens: checks.minTokens,
  ignoreEos: checks.ignoreEos,
  class: checks.class,
  tenant: checks.tenant,
  cacheSalt: checks.cacheSalt,
  deadlineMs: checks.deadlineMs,
  signal: z.instanceof(AbortSignal).optional(),
};

/** Messages that are text alone. `developer` is OpenAI's newer name for `system`. */
export const chatTurn = z
  .strictObject({
    role: z.enum(["system", "developer", "user", "assistant", "tool"]),
    content: wellFormedText,
  })
  .transform(({ role, content }) => ({ role: role === "developer" ? ("system" as const) : role, content }));

const chat = z.strictObject({ ...parameters, messages: z.array(chatTurn) });

const complete = z.strictObject({
  ...parameters,
  prompt: z.union([wellFormedText, z.array(z.number()), z.custom<ArrayLike<number>>(isNumberArray)], {
    error: "expected text or token ids",
  }),
});

/** Any typed array of numbers; what they are is checked against the vocabulary later. */
function isNumberArray(value: unknown): boolean {
  return (
    ArrayBuffer.isView(value) &&
    !(value instanceof DataView || value instanceof BigInt64Array || value instanceof BigUint64Array)
  );
}

export interface CheckedOptions {
  readonly prompt: Prompt;
  readonly parameters: Parameters;
}

export function checkChat(options: ChatOptions): CheckedOptions {
  const { messages, ...rest } = check(chat, options);
  return { prompt: { messages }, parameters: named(rest) };
}

export function checkComplete(options: CompleteOptions): CheckedOptions {
  const { prompt, ...rest } = check(complete, options);
  return { prompt: typeof prompt === "string" ? { text: prompt } : { ids: prompt }, parameters: named(rest) };
}

type Checked = Required<Omit<Parameters, "stops" | "class">> & {
  readonly class: RequestClass | undefined;
  readonly stop: readonly string[];
  readonly signal?: GenerateOptions["signal"];
};

function named({ stop, signal: _signal, ...rest }: Checked): Parameters {
  return { ...rest, class: rest.class ?? "interactive", stops: stop };
}
