import { randomBytes } from "node:crypto";
import * as z from "zod";
import type { TokenLikelihood } from "../client/text-generation.js";
import type { Config } from "../config/schema.js";
import {
  answerWhole,
  fanOut,
  type OpenAiUsage,
  prepareOptions,
  type ReplyFormat,
  streamChoices,
} from "./choices.js";
import type { ServingCore } from "./core.js";
import type { Exchange } from "./exchange.js";
import type { PlacedDelta } from "./generate-text.js";
import { checkModel } from "./models.js";
import { commonFields, fromBody, ignored, isEmptyArray, tierServed, unsupported } from "./openai-fields.js";
import { MOST_LOGPROBS, maybe, wellFormedText } from "./parameters.js";
import { encodePrompt, prepare } from "./prepare.js";
import { check, refuse } from "./validation.js";

const part = z.strictObject({
  type: z.literal("text", "only parts of type 'text' are supported"),
  text: wellFormedText,
});

const message = z
  .strictObject({
    role: z.enum(["system", "developer", "user", "assistant", "tool"]),
    content: z.union([wellFormedText, z.array(part)], {
      error: "expected text or an array of parts of type 'text'",
    }),
    name: ignored,
    tool_calls: unsupported("tool calls are", isEmptyArray),
    tool_call_id: ignored,
    refusal: unsupported("refusals are"),
    audio: unsupported("audio is"),
    function_call: unsupported("function calls are"),
    // OpenAI's answers have it, and come back as messages.
    annotations: unsupported("annotations are", isEmptyArray),
  })
  .transform(({ role, content }) => ({
    role: role === "developer" ? ("system" as const) : role,
    content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
  }));

/** Messages as OpenAI writes them; shared with the WebSocket door. */
export const wireMessages = z.array(message);

const chatRequest = z.strictObject({
  ...commonFields,
  messages: wireMessages,
  logprobs: maybe(z.boolean()),
  top_logprobs: maybe(z.int().min(0).max(MOST_LOGPROBS)),
  response_format: unsupported('formats other than {"type": "text"} are', isTextFormat),
  tools: unsupported("tools are", isEmptyArray),
  tool_choice: unsupported("tool choices are", (value) => value === "none" || value === "auto"),
  parallel_tool_calls: ignored,
  functions: unsupported("functions are", isEmptyArray),
  function_call: unsupported("function calls are", (value) => value === "none" || value === "auto"),
  modalities: unsupported(
    'modalities other than ["text"] are',
    (value) => JSON.stringify(value) === '["text"]',
  ),
  audio: unsupported("audio is"),
  prediction: ignored,
  web_search_options: unsupported("web search is"),
  reasoning_effort: unsupported("reasoning effort is", (value) => value === "none"),
  verbosity: unsupported("verbosity is", (value) => value === "medium"),
});

function isTextFormat(value: unknown): boolean {
  return typeof value === "object" && value !== null && "type" in value && value.type === "text";
}

/** POST /v1/chat/completions */
export async function chatRoute(
  core: ServingCore,
  server: Config["server"],
  exchange: Exchange,
): Promise<void> {
  const body = check(chatRequest, await exchange.readJson());
  checkModel(core.service.info, body.model);
  if (body.top_logprobs !== undefined && !body.logprobs) {
    throw refuse("top_logprobs", "'top_logprobs' needs 'logprobs': true.");
  }
  if (body.stream_options && !body.stream) {
    throw refuse("stream_options", "'stream_options' needs 'stream': true.");
  }
  const parameters = fromBody(body, body.logprobs ? (body.top_logprobs ?? 0) : -1);
  const prompt = await encodePrompt(core, { messages: body.messages });
  const request = prepare(core, prompt, parameters, prepareOptions(server, body.stream, "messages"));
  const requests = fanOut([request], body.n);
  const format = chatFormat(
    core,
    tierServed(body),
    body.logprobs ?? false,
    body.stream_options?.include_usage ?? false,
  );
  if (body.stream) await streamChoices(core, server, exchange, requests, body.n, format);
  else await answerWhole(core, exchange, requests, body.n, format);
}

function chatFormat(
  core: ServingCore,
  tier: { readonly service_tier?: string },
  withLogprobs: boolean,
  withUsage: boolean,
): ReplyFormat {
  const { model, instructionSet } = core.service.info;
  const head = (object: string): object => ({
    id,
    object,
    created,
    model,
    system_fingerprint: `streamserve-${instructionSet}`,
    ...tier,
  });
  const id = `chatcmpl-${randomBytes(12).toString("hex")}`;
  const created = Math.floor(Date.now() / 1000);
  const chunk = (choices: readonly object[], usage: OpenAiUsage | null): object => ({
    ...head("chat.completion.chunk"),
    choices,
    ...(withUsage ? { usage } : {}),
  });
  const likelihoods = (entries: PlacedDelta["logprobs"]): object | null =>
    withLogprobs ? { content: entries.map(chatLogprob), refusal: null } : null;
  const role = (first: boolean): object => (first ? { role: "assistant" } : {});
  return {
    chunk: (index, { text, logprobs }, first) =>
      chunk(
        [
          {
            index,
            delta: { ...role(first), content: text },
            logprobs: likelihoods(logprobs),
            finish_reason: null,
          },
        ],
        null,
      ),
    last: (index, { finish }, first) =>
      chunk([{ index, delta: role(first), logprobs: null, finish_reason: finish }], null),
    ...(withUsage ? { usage: (usage: OpenAiUsage) => chunk([], usage) } : {}),
    whole: (choices, usage) => ({
      ...head("chat.completion"),
      choices: choices.map(({ text, logprobs, ending }, index) => ({
        index,
        message: { role: "assistant", content: text, refusal: null },
        logprobs: likelihoods(logprobs),
        finish_reason: ending.finish,
      })),
      usage,
    }),
  };
}

/** JSON has no -Infinity: the least log-probability is written as OpenAI does. */
export function finite(logprob: number): number {
  return Math.max(logprob, -9999);
}

export function chatLogprob(entry: PlacedDelta["logprobs"][number]): object {
  const likelihood = ({ token, logprob, bytes }: TokenLikelihood): object => ({
    token,
    logprob: finite(logprob),
    bytes,
  });
  return { ...likelihood(entry), top_logprobs: entry.top.map(likelihood) };
}
