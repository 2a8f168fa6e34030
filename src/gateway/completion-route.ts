import { randomBytes } from "node:crypto";
import * as z from "zod";
import type { Config } from "../config/schema.js";
import { finite } from "./chat-route.js";
import {
  answerWhole,
  fanOut,
  MOST_CHOICES,
  type OpenAiUsage,
  prepareOptions,
  type ReplyFormat,
  streamChoices,
} from "./choices.js";
import type { ServingCore } from "./core.js";
import type { Exchange } from "./exchange.js";
import type { PlacedDelta } from "./generate-text.js";
import { checkModel } from "./models.js";
import { commonFields, fromBody, unsupported } from "./openai-fields.js";
import { MOST_LOGPROBS, maybe, wellFormedText } from "./parameters.js";
import { encodePrompt, type Prompt, prepare } from "./prepare.js";
import { check, refuse } from "./validation.js";

const tokens = z.array(z.number());

const completionRequest = z.strictObject({
  ...commonFields,
  prompt: z.union([wellFormedText, tokens, z.array(wellFormedText), z.array(tokens)], {
    error: "expected text, token ids, or an array of either",
  }),
  logprobs: maybe(z.int().min(0).max(MOST_LOGPROBS)),
  echo: unsupported("echo is", (value) => value === false),
  suffix: unsupported("suffixes are", (value) => value === ""),
  best_of: maybe(z.int().min(1).max(MOST_CHOICES)),
});

type CompletionPrompt = z.output<typeof completionRequest>["prompt"];

/** POST /v1/completions */
export async function completionRoute(
  core: ServingCore,
  server: Config["server"],
  exchange: Exchange,
): Promise<void> {
  const body = check(completionRequest, await exchange.readJson());
  checkModel(core.service.info, body.model);
  if (body.best_of !== undefined && body.best_of !== body.n) {
    throw refuse("best_of", "'best_of' other than 'n' is not supported here.");
  }
  if (body.stream_options && !body.stream) {
    throw refuse("stream_options", "'stream_options' needs 'stream': true.");
  }
  const prompts = asPrompts(body.prompt);
  if (prompts.length * body.n > MOST_CHOICES) {
    throw refuse(
      "prompt",
      `'prompt' times 'n' makes ${prompts.length * body.n} choices: at most ${MOST_CHOICES}.`,
    );
  }
  const parameters = fromBody(body, body.logprobs ?? -1);
  const options = prepareOptions(server, body.stream, "prompt");
  const encoded = await Promise.all(prompts.map((prompt) => encodePrompt(core, prompt)));
  const requests = fanOut(
    encoded.map((ids) => prepare(core, ids, parameters, options)),
    body.n,
  );
  const format = completionFormat(core, body.logprobs, body.stream_options?.include_usage ?? false);
  if (body.stream) await streamChoices(core, server, exchange, requests, body.n, format);
  else await answerWhole(core, exchange, requests, body.n, format);
}

function asPrompts(prompt: CompletionPrompt): Prompt[] {
  if (typeof prompt === "string") return [{ text: prompt }];
  const isIds = (list: CompletionPrompt): list is number[] => list.length > 0 && typeof list[0] === "number";
  if (isIds(prompt)) return [{ ids: prompt }];
  if (prompt.length === 0) throw refuse("prompt", "'prompt' is empty: give at least one.", "empty_prompt");
  return (prompt as readonly (string | number[])[]).map((one) =>
    typeof one === "string" ? { text: one } : { ids: one },
  );
}

function completionFormat(core: ServingCore, width: number | undefined, withUsage: boolean): ReplyFormat {
  const { model, instructionSet } = core.service.info;
  const head = {
    id: `cmpl-${randomBytes(12).toString("hex")}`,
    object: "text_completion",
    created: Math.floor(Date.now() / 1000),
    model,
    system_fingerprint: `streamserve-${instructionSet}`,
  };
  const chunk = (choices: readonly object[], usage: OpenAiUsage | null): object => ({
    ...head,
    choices,
    ...(withUsage ? { usage } : {}),
  });
  const likelihoods = (entries: PlacedDelta["logprobs"]): object | null =>
    width === undefined ? null : legacyLogprobs(entries);
  return {
    chunk: (index, { text, logprobs }) =>
      chunk([{ index, text, logprobs: likelihoods(logprobs), finish_reason: null }], null),
    last: (index, { finish }) => chunk([{ index, text: "", logprobs: null, finish_reason: finish }], null),
    ...(withUsage ? { usage: (usage: OpenAiUsage) => chunk([], usage) } : {}),
    whole: (choices, usage) => ({
      ...head,
      choices: choices.map(({ text, logprobs, ending }, index) => ({
        index,
        text,
        logprobs: likelihoods(logprobs),
        finish_reason: ending.finish,
      })),
      usage,
    }),
  };
}

/** OpenAI's older shape: parallel arrays. */
function legacyLogprobs(entries: PlacedDelta["logprobs"]): object {
  return {
    tokens: entries.map(({ token }) => token),
    token_logprobs: entries.map(({ logprob }) => finite(logprob)),
    top_logprobs: entries.map(({ top }) =>
      Object.fromEntries(top.map(({ token, logprob }) => [token, finite(logprob)])),
    ),
    text_offset: entries.map(({ offset }) => offset),
  };
}
