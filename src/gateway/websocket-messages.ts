import * as z from "zod";
import type { Ending } from "../client/text-generation.js";
import { type ErrorCode, StreamServeError } from "../errors.js";
import { chatLogprob, wireMessages } from "./chat-route.js";
import type { PlacedDelta } from "./generate-text.js";
import { MOST_LOGPROBS, maybe, wellFormedText, wireParameters } from "./parameters.js";
import { check } from "./validation.js";

/** The messages of the subprotocol `streamserve.v1`, as docs/protocol.md specifies them. */
export const SUBPROTOCOL = "streamserve.v1";
export const WEBSOCKET_PATH = "/v1/stream";

/** Credit that a request may hold, in tokens. */
export const MOST_CREDIT = 2 ** 31 - 1;

const id = z.string().min(1).max(128);

const generate = z.strictObject({
  type: z.literal("generate"),
  id,
  ...wireParameters,
  model: z.string().nullish(),
  messages: maybe(wireMessages),
  prompt: maybe(z.union([wellFormedText, z.array(z.number())], { error: "expected text or token ids" })),
  logprobs: maybe(z.int().min(0).max(MOST_LOGPROBS)),
  credit: maybe(z.int().min(0).max(MOST_CREDIT)),
});

/** A message without a usable id is wrong whatever it says. */
const idOnly = z.looseObject({ id });

const cancel = z.strictObject({ type: z.literal("cancel"), id });

const credit = z.strictObject({
  type: z.literal("credit"),
  id,
  tokens: z.int().min(1).max(MOST_CREDIT),
});

export type GenerateMessage = z.output<typeof generate>;
export type ClientMessage = GenerateMessage | z.output<typeof cancel> | z.output<typeof credit>;

/** Reads a client's message. Throws `invalid_json`, `invalid_message`, `unknown_message` or a parameter's error. */
export function readMessage(text: string): ClientMessage {
  const value = parseObject(text);
  switch (value.type) {
    case "generate":
      return check(generate, value);
    case "cancel":
      return coded("invalid_message", () => check(cancel, value));
    case "credit":
      check(idOnly, value);
      return coded("invalid_credit", () => check(credit, value));
    default:
      throw new StreamServeError(
        "unknown_message",
        `There is no message of type ${JSON.stringify(value.type)?.slice(0, 100)}: send generate, cancel or credit.`,
      );
  }
}

/** The request id in a message that is otherwise wrong, so that the error can name it. */
export function idOf(text: string): string | undefined {
  try {
    return id.safeParse(parseObject(text).id).data;
  } catch {
    return undefined;
  }
}

function parseObject(text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new StreamServeError("invalid_json", `The message is not valid JSON: ${(error as Error).message}.`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new StreamServeError("invalid_message", "A message is a JSON object with a 'type'.");
  }
  return value as Record<string, unknown>;
}

function coded<T>(code: ErrorCode, run: () => T): T {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof StreamServeError)) throw error;
    throw new StreamServeError(code, error.message, error.details);
  }
}

/** What an error ends: the request it names, the socket, or nothing. */
export type Ends = "request" | "socket" | "nothing";

export function startedMessage(id: string, promptTokens: number, maxTokens: number): object {
  return { type: "started", id, prompt_tokens: promptTokens, max_tokens: maxTokens };
}

export function deltaMessage(id: string, delta: PlacedDelta, withLogprobs: boolean): object {
  const { index, tokens, text, logprobs } = delta;
  return {
    type: "delta",
    id,
    index,
    tokens,
    text,
    ...(withLogprobs ? { logprobs: logprobs.map(chatLogprob) } : {}),
  };
}

export function doneMessage(id: string, { finish, usage, timings }: Ending): object {
  return {
    type: "done",
    id,
    finish_reason: finish,
    usage: {
      prompt_tokens: usage.promptTokens,
      cached_tokens: usage.cachedTokens,
      completion_tokens: usage.outputTokens,
      draft_tokens: usage.draftTokens,
      accepted_tokens: usage.acceptedTokens,
    },
    timings: {
      queued_ms: timings.queuedMs,
      first_token_ms: timings.firstTokenMs,
      total_ms: timings.totalMs,
    },
  };
}

export function errorMessage(error: StreamServeError, ends: Ends, id: string | undefined): object {
  const { param, ...details } = error.details;
  return {
    type: "error",
    ...(id === undefined ? {} : { id }),
    ends,
    code: error.code,
    message: error.message,
    ...(param === undefined ? {} : { param }),
    ...(Object.keys(details).length > 0 ? { details } : {}),
  };
}
