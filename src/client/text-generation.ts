import type { RequestClass } from "../gateway/generation.js";

/** The vocabulary of generation that the embedding API and the WebSocket client share. */

/** A message of a chat. `developer` is read as `system`. */
export interface ChatTurn {
  readonly role: "system" | "developer" | "user" | "assistant" | "tool";
  readonly content: string;
}

export interface GenerateOptions {
  /** Output tokens at most; by default `server.defaultMaxTokens`, or what the context has left if that is less. */
  readonly maxTokens?: number;
  /** 0: greedy; 1 (default): the model's own distribution; at most 2. */
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly repetitionPenalty?: number;
  /** The same seed and request give the same tokens; random by default. */
  readonly seed?: number;
  /** Strings that end the output; they are not part of it. At most 4. */
  readonly stop?: string | readonly string[];
  /** Token id -> bias in -100..100 added to its logit. */
  readonly logitBias?: Readonly<Record<number, number>>;
  /** Report the log-probability of each token and of the n likeliest (0..20); off by default. */
  readonly logprobs?: number;
  /** Output tokens before an end-of-turn token may be drawn. */
  readonly minTokens?: number;
  /** Go on to `maxTokens` whatever the model draws. */
  readonly ignoreEos?: boolean;
  /** `interactive` (default) comes first; `offline` takes what is spare, and gives way within a step. */
  readonly class?: RequestClass;
  /** Whom it is for: tenants that wait share the machine by tokens. Absent: one tenant with all who don't say. */
  readonly tenant?: string;
  /** Only requests with the same salt share cached prefixes, and learn from times what was asked. */
  readonly cacheSalt?: string;
  /** Fail with `deadline_exceeded` when not done after so many milliseconds. */
  readonly deadlineMs?: number;
  /** Cancels the generation; the iteration then throws `cancelled`, its `cause` the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface ChatOptions extends GenerateOptions {
  readonly messages: readonly ChatTurn[];
}

export interface CompleteOptions extends GenerateOptions {
  /** Raw text, or token ids. */
  readonly prompt: string | ArrayLike<number>;
}

export interface TokenLikelihood {
  /** The token's own text, special tokens included. */
  readonly token: string;
  /** Natural log. */
  readonly logprob: number;
  /** The token's bytes: part of a character may be in the next token. */
  readonly bytes: readonly number[];
}

export interface TokenLogprob extends TokenLikelihood {
  /** The likeliest tokens at this place, likeliest first. */
  readonly top: readonly TokenLikelihood[];
}

/** A piece of output. Text never ends inside a character, nor inside what may become a stop string. */
export interface TextDelta {
  readonly text: string;
  /** Output index of the first token this delta covers. */
  readonly index: number;
  /** Tokens this delta covers; text may lag behind them. */
  readonly tokens: number;
  /** Log-probabilities of the tokens whose text begins in this delta, if asked for. */
  readonly logprobs: readonly TokenLogprob[];
}

export interface Usage {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly outputTokens: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
}

export interface Ending {
  readonly finish: "stop" | "length";
  readonly usage: Usage;
  /** Milliseconds from submission. */
  readonly timings: { readonly queuedMs: number; readonly firstTokenMs: number; readonly totalMs: number };
}

export interface Completion extends Ending {
  readonly text: string;
  readonly logprobs: readonly TokenLogprob[];
}

/**
 * A generation under way. Iterate it for deltas (the iterator returns the `Ending`), or await `completion()` for
 * all at once; leaving the loop cancels it. Failures throw `StreamServeError`.
 */
export interface TextGeneration extends AsyncIterableIterator<TextDelta, Ending, undefined> {
  [Symbol.asyncIterator](): TextGeneration;
  /** How it ended; undefined before. */
  readonly ending: Ending | undefined;
  /**
   * Reads to the end and gives all text not yet iterated, with usage and timings. Asked again, here or by `text`, it gives
   * the same.
   */
  completion(): Promise<Completion>;
  /** The text of `completion` alone. */
  text(): Promise<string>;
  /** Cancels; iteration throws `cancelled`. */
  cancel(): void;
}
