import type { Sampling } from "../engine/engine.js";
import type { StreamServeError } from "../errors.js";

/**
 * The seam between the doors (HTTP, WebSocket, embedding, CLI) and the actors. A door turns text into token
 * ids and a `GenerationRequest`; the gateway actor (src/actors/gateway.ts) implements `GenerationService`.
 */

/** `interactive` work comes first; `offline` fills what is spare. */
export type RequestClass = "interactive" | "offline";

export interface GenerationRequest {
  readonly prompt: Uint32Array;
  /** Output tokens at most; at least 1. prompt + maxTokens must fit the context. */
  readonly maxTokens: number;
  readonly sampling: Sampling;
  readonly class: RequestClass;
  /** Whose share of the machine it is served from; absent or empty: that of all who don't say. */
  readonly tenant?: string;
  /** Only requests with the same salt share cached prefixes with it; absent or empty: all that have none. */
  readonly cacheSalt?: string;
  /** The request fails with `deadline_exceeded` when it is not done this long after it was submitted; 0: none. */
  readonly deadlineMs: number;
  /** Tokens that may be sent before the first `grant`; `Infinity` for a reader that takes all. */
  readonly credit: number;
}

/** Tokens in output order. `index` is the output index of the first; none is sent twice, none is left out. */
export interface DeliveredTokens {
  readonly index: number;
  readonly ids: Uint32Array;
  /** One a token, natural log; empty unless asked for. */
  readonly logprobs: Float32Array;
  /** `Sampling.logprobs` entries a token, flattened. */
  readonly topIds: Uint32Array;
  readonly topLogprobs: Float32Array;
}

export type FinishReason = "stop" | "length";

export interface GenerationTimings {
  /** Milliseconds from submission to admission, first token and end. */
  readonly queuedMs: number;
  readonly firstTokenMs: number;
  readonly totalMs: number;
}

export interface GenerationSummary {
  readonly finish: FinishReason;
  readonly promptTokens: number;
  /** Prompt tokens whose KV came from the prefix cache. */
  readonly cachedTokens: number;
  readonly outputTokens: number;
  /** Draft tokens proposed and accepted. */
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  readonly timings: GenerationTimings;
}

/** Receives a generation; `done` or `failed` is called exactly once, last. Calls never throw. */
export interface GenerationSink {
  tokens(delivered: DeliveredTokens): void;
  done(summary: GenerationSummary): void;
  /** `cancelled` after `cancel()`; see ERROR_CODES. `details.retryAfterMs` is set where retrying later may help. */
  failed(error: StreamServeError): void;
}

export interface Generation {
  /** Ends the request at the next step; its KV is freed then. A no-op once it has ended. */
  cancel(): void;
  /**
   * The reader has enough (a stop string matched): as `cancel`, but the request ends well, with `done` and
   * finish `stop`. Tokens already on their way may still arrive before it.
   */
  stop(): void;
  /** Lets `tokens` more be sent. */
  grant(tokens: number): void;
}

export interface ServiceInfo {
  readonly model: string;
  readonly contextTokens: number;
  readonly vocabulary: number;
  /** Instruction set the kernels run on, e.g. "avx512-vnni". */
  readonly instructionSet: string;
  /** Compute threads that all lanes share. */
  readonly threads: number;
  /** Where they run and shared memory lies, for people: "1 node, not pinned". */
  readonly placement: string;
  /** Tokens of KV in the pool. */
  readonly kvTokens: number;
  readonly pairs: number;
}

export interface GenerationService {
  readonly info: ServiceInfo;
  /** Never throws: a request that can't be taken fails through its sink. */
  generate(request: GenerationRequest, sink: GenerationSink): Generation;
  /** Counters and gauges of every part, for /metrics. */
  snapshot(): ServiceSnapshot;
}

export interface ServiceSnapshot {
  readonly requestsRunning: number;
  readonly requestsWaiting: number;
  readonly requestsEnded: Readonly<Record<string, number>>;
  readonly promptTokens: number;
  readonly outputTokens: number;
  readonly draftTokens: number;
  readonly acceptedTokens: number;
  readonly preemptions: number;
  readonly resumptions: number;
  readonly deadLetters: number;
  readonly actorRestarts: number;
  readonly kv: import("../engine/engine.js").KvCounts;
  /** The draft model's pool; undefined without a draft model. */
  readonly draftKv: import("../engine/engine.js").KvCounts | undefined;
  /** The file that cached prefixes go to; undefined without one. */
  readonly prefixTier: import("../engine/engine.js").PrefixTierCounts | undefined;
  readonly lanes: readonly LaneSnapshot[];
}

export interface LaneSnapshot {
  readonly name: string;
  readonly role: "prefill" | "decode";
  readonly rows: number;
  readonly queued: number;
  /** Sequences that a prefill lane decodes itself, or is to. */
  readonly keptRows: number;
  /** Prompt tokens that it has yet to compute. */
  readonly promptTokens: number;
  readonly steps: number;
  /** Computing time of all its steps, in milliseconds. */
  readonly busyMs: number;
  /** Recent mean of drafts a row and step. */
  readonly draftDepth: number;
  /** Recent mean of |measured - predicted| / measured over its steps. */
  readonly stepCostError: number;
  /** Drafts verified and drafts that held, by where they came from. */
  readonly drafters: readonly { readonly name: string; readonly drafted: number; readonly held: number }[];
  /** Tokens that its steps were expected to draw when they were planned, and drew. */
  readonly expectedTokens: number;
  readonly drawnTokens: number;
}
