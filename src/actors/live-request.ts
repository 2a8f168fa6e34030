import type { CacheSalt } from "../engine/engine.js";
import type { StreamServeError } from "../errors.js";
import type {
  DeliveredTokens,
  FinishReason,
  GenerationRequest,
  GenerationSink,
} from "../gateway/generation.js";
import type { ActorRef, TimerId } from "../runtime/actor.js";
import { type Journey, UNLIMITED } from "./messages.js";
import type { PromptRegion } from "./prompt-region.js";
import { tenantNumber } from "./tenant.js";

/** Why the gateway is taking a request back. */
export type Closing = "cancelled" | "stopped" | "deadline";

const NO_IDS = new Uint32Array(0);
const NO_VALUES = new Float32Array(0);

/**
 * A request that has not ended, and the truth about it: which tokens it has received, and which of them its
 * reader has been given. Tokens are taken by index, each once; what goes beyond the reader's credit is held.
 */
export class LiveRequest {
  attempt = 0;
  /** It was admitted before this attempt. */
  resumed = false;
  /** Attempts that died with an actor: those that gave way to others don't count. */
  interruptions = 0;
  /** Output tokens received. */
  received = 0;
  /** Output tokens given to the reader. */
  sent = 0;
  creditUpTo: number;
  /** Lane that decodes this attempt, as far as it has been heard of. */
  lane: ActorRef | undefined;
  cachedTokens = 0;
  draftTokens = 0;
  acceptedTokens = 0;
  readonly submittedAt: number;
  /** When this attempt was submitted. */
  queuedAt: number;
  admittedAt: number | undefined;
  /** Attempt that was admitted last; -1: none yet. */
  admitted = -1;
  /** Since when all that its reader's credit allows has been received, and more is to come. */
  idleSince: number | undefined;
  /** It gave way while its reader took nothing: it is in no queue and no lane until its reader takes more. */
  suspended = false;
  firstTokenAt: number | undefined;
  lastTokenAt = 0;
  /** Attempt of which tokens have been received last; -1: none yet. */
  begun = -1;
  closing: Closing | undefined;
  closingSince = 0;
  /** The lanes hold nothing of it any more: reservation and region have been given back. */
  letGo = false;
  /** Its reader has had its last word; what remains is for the lanes to let go of it. */
  answered = false;
  /** Its last token is here, but the reader has no credit for all it holds. */
  finish: FinishReason | undefined;
  heldSince: number | undefined;
  deadlineTimer: TimerId | undefined;
  readonly deadline: number;
  readonly #tenant: number;
  #held: DeliveredTokens[] = [];

  /** It has waited for its reader. */
  starved = false;

  constructor(
    readonly id: number,
    readonly request: GenerationRequest,
    readonly sink: GenerationSink,
    readonly region: PromptRegion,
    readonly salt: CacheSalt,
    now: number,
  ) {
    this.submittedAt = now;
    this.queuedAt = now;
    this.deadline = request.deadlineMs > 0 ? now + request.deadlineMs : 0;
    this.creditUpTo = Math.min(UNLIMITED, request.credit);
    this.#tenant = tenantNumber(request.tenant);
  }

  get identity(): { request: number; attempt: number } {
    return { request: this.id, attempt: this.attempt };
  }

  /** Nothing can be drawn for it until its reader takes more. */
  get idle(): boolean {
    const open = this.closing === undefined && this.finish === undefined;
    // The first token is drawn whatever the credit is.
    return open && this.received > 0 && this.received >= this.creditUpTo;
  }

  get holds(): boolean {
    return this.#held.length > 0;
  }

  /** The journey of the present attempt: prompt and whatever output has been received. */
  journey(): Journey {
    const { sampling } = this.request;
    return {
      ...this.identity,
      generation: 0,
      prompt: this.region.ref,
      promptTokens: this.request.prompt.length + this.received,
      outputFrom: this.request.prompt.length,
      stopIds: sampling.stopIds.length,
      biases: sampling.logitBias.size,
      maxTokens: this.request.maxTokens,
      class: this.request.class === "offline" ? 1 : 0,
      tenant: this.#tenant,
      reservedTokens: 0,
      salt0: this.salt[0],
      salt1: this.salt[1],
      deadline: this.deadline,
      creditUpTo: this.creditUpTo,
      resumed: this.resumed ? 1 : 0,
      temperature: sampling.temperature,
      topK: sampling.topK,
      topP: sampling.topP,
      minP: sampling.minP,
      repetitionPenalty: sampling.repetitionPenalty,
      presencePenalty: sampling.presencePenalty,
      frequencyPenalty: sampling.frequencyPenalty,
      seed: sampling.seed,
      minTokens: sampling.minTokens,
      logprobs: sampling.logprobs,
    };
  }

  /**
   * Takes tokens whose first has output index `delivered.index`; those received before are dropped. False when
   * there is a gap before them: an index that nobody has sent.
   */
  receive(delivered: DeliveredTokens, now: number): boolean {
    const known = this.received - delivered.index;
    if (known < 0) return false;
    if (known >= delivered.ids.length) return true;
    const fresh = sliceTokens(delivered, known, delivered.ids.length);
    for (const id of fresh.ids) this.region.setOutput(this.received++, id);
    this.firstTokenAt ??= now;
    this.lastTokenAt = now;
    this.#held.push(fresh);
    return true;
  }

  /** Milliseconds an output token after the first; 0 for fewer than two, and where a wait for something else counts too. */
  get tokenMs(): number {
    if (this.firstTokenAt === undefined || this.received < 2 || this.resumed || this.starved) return 0;
    return (this.lastTokenAt - this.firstTokenAt) / (this.received - 1);
  }

  /** The reader's last word, if it has not had one: the request is done. */
  answerDone(finish: FinishReason, now: number): void {
    if (this.answered) return;
    this.answered = true;
    this.sink.done({
      finish,
      promptTokens: this.request.prompt.length,
      cachedTokens: this.cachedTokens,
      outputTokens: this.sent,
      draftTokens: this.draftTokens,
      acceptedTokens: this.acceptedTokens,
      timings: {
        queuedMs: (this.admittedAt ?? now) - this.submittedAt,
        firstTokenMs: (this.firstTokenAt ?? now) - this.submittedAt,
        totalMs: now - this.submittedAt,
      },
    });
  }

  /** The reader's last word, if it has not had one: the request failed. */
  answerFailed(error: StreamServeError): void {
    if (this.answered) return;
    this.answered = true;
    this.sink.failed(error);
  }

  /** Gives the reader what its credit allows. */
  flush(now: number): void {
    // What the reader does with a token may end the request.
    while (this.#held.length > 0 && this.sent < this.creditUpTo && !this.answered) {
      const first = this.#held[0] as DeliveredTokens;
      const most = this.creditUpTo - this.sent;
      if (first.ids.length <= most) this.#held.shift();
      else this.#held[0] = sliceTokens(first, most, first.ids.length);
      const part = first.ids.length <= most ? first : sliceTokens(first, 0, most);
      this.sent += part.ids.length;
      this.sink.tokens(part);
    }
    this.heldSince = this.#held.length > 0 ? (this.heldSince ?? now) : undefined;
  }
}

/** Tokens `from` to `to` of a delivery. */
function sliceTokens(d: DeliveredTokens, from: number, to: number): DeliveredTokens {
  if (from === 0 && to === d.ids.length) return d;
  const per = d.topIds.length / d.ids.length;
  const logprobs = d.logprobs.length > 0;
  return {
    index: d.index + from,
    ids: d.ids.slice(from, to),
    logprobs: logprobs ? d.logprobs.slice(from, to) : NO_VALUES,
    topIds: per > 0 ? d.topIds.slice(from * per, to * per) : NO_IDS,
    topLogprobs: per > 0 ? d.topLogprobs.slice(from * per, to * per) : NO_VALUES,
  };
}
