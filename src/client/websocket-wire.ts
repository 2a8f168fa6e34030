import { ERROR_CODES, type ErrorCode, StreamServeError } from "../errors.js";
import type {
  ChatOptions,
  CompleteOptions,
  Ending,
  TextDelta,
  TokenLikelihood,
  TokenLogprob,
} from "./text-generation.js";

/** The client's side of the messages of `streamserve.v1` (docs/protocol.md). Runs in Node and browsers. */

export function generateMessage(id: string, credit: number, options: ChatOptions | CompleteOptions): string {
  const input =
    "messages" in options
      ? { messages: options.messages }
      : { prompt: typeof options.prompt === "string" ? options.prompt : Array.from(options.prompt) };
  return JSON.stringify({
    type: "generate",
    id,
    credit,
    ...input,
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    repetition_penalty: options.repetitionPenalty,
    seed: options.seed,
    stop: options.stop,
    logit_bias: options.logitBias,
    logprobs: options.logprobs,
    min_tokens: options.minTokens,
    ignore_eos: options.ignoreEos,
    class: options.class,
    user: options.tenant,
    cache_salt: options.cacheSalt,
    deadline_ms: options.deadlineMs,
  });
}

interface WireLikelihood {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

interface WireLogprob extends WireLikelihood {
  readonly top_logprobs: readonly WireLikelihood[];
}

/** A server's message. */
export type ServerMessage =
  | {
      readonly type: "started";
      readonly id: string;
      readonly prompt_tokens: number;
      readonly max_tokens: number;
    }
  | {
      readonly type: "delta";
      readonly id: string;
      readonly index: number;
      readonly tokens: number;
      readonly text: string;
      readonly logprobs?: readonly WireLogprob[];
    }
  | {
      readonly type: "done";
      readonly id: string;
      readonly finish_reason: Ending["finish"];
      readonly usage: Readonly<
        Record<
          "prompt_tokens" | "cached_tokens" | "completion_tokens" | "draft_tokens" | "accepted_tokens",
          number
        >
      >;
      readonly timings: Readonly<Record<"queued_ms" | "first_token_ms" | "total_ms", number>>;
    }
  | {
      readonly type: "error";
      readonly id?: string;
      readonly ends: "request" | "socket" | "nothing";
      readonly code: string;
      readonly message: string;
      readonly param?: string;
      readonly details?: Readonly<Record<string, number | string>>;
    };

export function asDelta(message: ServerMessage & { type: "delta" }): TextDelta {
  const { index, tokens, text, logprobs = [] } = message;
  return { index, tokens, text, logprobs: logprobs.map(asLogprob) };
}

function asLogprob({ top_logprobs, ...token }: WireLogprob): TokenLogprob {
  return { ...token, top: top_logprobs satisfies readonly TokenLikelihood[] };
}

export function asEnding({ finish_reason, usage, timings }: ServerMessage & { type: "done" }): Ending {
  return {
    finish: finish_reason,
    usage: {
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.cached_tokens,
      outputTokens: usage.completion_tokens,
      draftTokens: usage.draft_tokens,
      acceptedTokens: usage.accepted_tokens,
    },
    timings: { queuedMs: timings.queued_ms, firstTokenMs: timings.first_token_ms, totalMs: timings.total_ms },
  };
}

/** An error of the server, typed; codes that this client doesn't know become `internal`. */
export function asError(
  code: string,
  message: string,
  details: Record<string, number | string> = {},
): StreamServeError {
  return new StreamServeError(isCode(code) ? code : "internal", message, details);
}

export function isCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code);
}
