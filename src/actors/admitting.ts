import type { ErrorCode } from "../errors.js";
import { type AdmissionLimits, AdmissionQueue, blocksFor, type Waiting } from "../policy/admission.js";
import { Bias } from "../policy/bias.js";
import { Forecast, type ForecastOptions } from "../policy/forecast.js";
import type { Objectives } from "../policy/objectives.js";
import { type LengthQuery, OutputLengths } from "../policy/output-length.js";
import { HoldingTime } from "../policy/waiting-time.js";
import { FINISH, type Journey, type MessageNamed, PREFILL } from "./messages.js";
import type { Prediction, Reservations, Running } from "./reservations.js";

export interface AdmittingOptions {
  /** "fifo": everyone is admitted at once, in order of arrival and without classes; for comparisons. */
  readonly policy: "admission" | "fifo";
  readonly blockTokens: number;
  /** Requests in lanes, at most. */
  readonly maxRunning: number;
  /** Decode lanes compute prompts too: their reports tell of both. */
  readonly fused: boolean;
  readonly admission: AdmissionLimits;
  /** By class: interactive, offline. */
  readonly objectives: readonly [Objectives, Objectives];
  /** Share of requests that are to keep to what was predicted for them. */
  readonly predictionShare: number;
  /** Answers remembered of each kind, and the share of them that a reservation covers. */
  readonly lengthMemory: number;
  readonly lengthShare: number;
  /** Reservations over which the time that KV is held is averaged. */
  readonly holdMemory: number;
  /** What a refused client is told while no rate is known, and the most it is told, in milliseconds. */
  readonly retryAfterMs: number;
  readonly mostRetryAfterMs: number;
  readonly forecast: ForecastOptions;
}

export interface WaitingRequest extends Waiting {
  readonly journey: Journey;
  prediction: Prediction;
}

export interface Refusal {
  readonly code: ErrorCode;
  readonly reason: string;
  readonly retryAfterMs?: number;
}

/** Output tokens from which a request's time per token says something. */
const TELLING_TOKENS = 8;
/** Share of answers that are shorter than what one is expected to be: the middle. */
const EXPECTED = 0.5;

/**
 * The scheduler's knowledge of what requests will need and when they can have it. It reserves KV for prompt and
 * predicted output; what turns out longer reserves more as it grows, and what was interrupted reserves to its
 * limit, so that nothing is interrupted for blocks again and again.
 */
export class Admitting {
  readonly queue: AdmissionQueue<WaitingRequest>;
  readonly forecast: Forecast;
  readonly #lengths: OutputLengths;
  readonly #holding: HoldingTime;
  /** How far predictions fell short lately. */
  readonly firstTokenBias: Bias;
  readonly tokenBias: Bias;

  constructor(
    readonly options: AdmittingOptions,
    readonly reservations: Reservations,
  ) {
    this.queue = new AdmissionQueue(options.admission);
    this.forecast = new Forecast(options.forecast);
    this.#lengths = new OutputLengths(options.lengthMemory);
    this.#holding = new HoldingTime(options.holdMemory);
    this.firstTokenBias = new Bias(options.predictionShare);
    this.tokenBias = new Bias(options.predictionShare);
  }

  /** A request as it waits: what it is expected to need. */
  request(submitted: MessageNamed<"submit">, generation: number, now: number): WaitingRequest {
    const message = this.options.policy === "fifo" ? { ...submitted, class: 0 } : submitted;
    const { promptTokens, outputFrom, maxTokens, attempt, tenant } = message;
    const resumed = message.resumed === 1;
    const query = queryOf(message);
    const produced = promptTokens - outputFrom;
    const share = this.#lengths.quantile(query, this.options.lengthShare, produced);
    const reservedTokens = outputFrom + (resumed ? maxTokens : share);
    const expected = this.#lengths.quantile(query, EXPECTED, produced) - produced;
    return {
      request: message.request,
      attempt,
      resumed,
      journey: { ...message, generation, reservedTokens },
      blocks: blocksFor(reservedTokens, this.options.blockTokens),
      promptTokens,
      tenant,
      cost: this.queue.shares(query.offline).cost(resumed ? 0 : promptTokens, expected),
      offline: query.offline,
      since: now,
      deadline: message.deadline,
      prediction: { at: now, firstTokenMs: 0, tokenMs: 0 },
    };
  }

  /** Why a request would wait longer than its class or its deadline allows; undefined when it would not. */
  refusal(waiting: WaitingRequest): Refusal | undefined {
    if (this.options.policy === "fifo") return undefined;
    const { offline, since, deadline, promptTokens } = waiting;
    const { ttftMs } = this.options.objectives[offline ? 1 : 0];
    const promptMs = this.forecast.promptMs(promptTokens);
    const left = deadline > 0 ? deadline - since : Number.POSITIVE_INFINITY;
    if (promptMs > left) {
      const reason = `The prompt alone is predicted to take ${Math.ceil(promptMs)} ms: allow more time, or shorten it.`;
      return { code: "deadline_exceeded", reason };
    }
    const wait = this.#waitMs(waiting);
    waiting.prediction = { ...waiting.prediction, firstTokenMs: wait + promptMs };
    const { factor } = this.firstTokenBias;
    const promised = ttftMs > 0 ? ttftMs : Number.POSITIVE_INFINITY;
    const own = promptMs * factor;
    // A prompt that is too long for the objective by itself waits no longer than that.
    const allowed = Math.min(own < promised ? promised - own : promised, left - own);
    if (wait === 0 || wait * factor <= allowed) return undefined;
    const retryAfterMs = this.#clampRetry(wait * factor - allowed);
    const late =
      left < promised
        ? "too late for the deadline"
        : `later than scheduler.${offline ? "offline" : "interactive"}.ttftMs (${ttftMs} ms) allows for`;
    const predicted = Math.ceil((wait + promptMs) * factor);
    return {
      code: "overloaded",
      reason: `The first token is predicted in ${predicted} ms, ${late}: try again in ${retryAfterMs} ms.`,
      retryAfterMs,
    };
  }

  /** Why there is no place in the queue. */
  full(waiting: WaitingRequest): Refusal {
    const retryAfterMs = this.#clampRetry(this.#waitMs(waiting));
    const reason = `${this.queue.size} requests are waiting already: try again in ${retryAfterMs} ms.`;
    return { code: "overloaded", reason, retryAfterMs };
  }

  /** Why somebody who waited gave a place in a full queue to another tenant. */
  displaced(waiting: WaitingRequest): Refusal {
    const retryAfterMs = this.#clampRetry(this.#waitMs(waiting));
    const reason = `The queue is full, and most of what waits is this user's: try again in ${retryAfterMs} ms.`;
    return { code: "rate_limited", reason, retryAfterMs };
  }

  /** Whether a request may go to the lanes now. */
  fits({ blocks, offline }: WaitingRequest): boolean {
    if (this.options.policy === "fifo") return true;
    const { running, freeBlocks } = this.reservations;
    if (blocks > freeBlocks || running.size >= this.options.maxRunning) return false;
    return this.reservations.count(offline) < this.#mostDecoding(offline);
  }

  /** A request's first token is there. */
  began(running: Running, at: number): void {
    const { prediction } = running;
    if (running.begun) return;
    running.begun = true;
    // What was interrupted, or was not predicted, says nothing.
    if (running.journey.resumed === 1 || prediction.firstTokenMs === 0) return;
    this.firstTokenBias.observe(prediction.firstTokenMs, at - prediction.at);
  }

  /** A request has ended: what was reserved and charged for it is set right, and its length and pace are learnt. */
  ended(running: Running, { outputTokens, finish, tokenMs }: MessageNamed<"ended">, now: number): void {
    this.settle(running, outputTokens);
    this.#holding.released(now - running.since);
    if (finish !== FINISH.none) {
      this.#lengths.observe(queryOf(running.journey), outputTokens, finish === FINISH.length);
    }
    if (tokenMs > 0 && !running.offline && outputTokens >= TELLING_TOKENS) {
      this.tokenBias.observe(running.prediction.tokenMs, tokenMs);
    }
  }

  /** Sets the charge for an attempt right: `outputTokens` of the whole request are there now. */
  settle({ journey, cost }: Running, outputTokens: number): void {
    const { promptTokens, outputFrom, resumed } = journey;
    const shares = this.queue.shares(journey.class === 1);
    const drawn = outputTokens - (promptTokens - outputFrom);
    shares.charge(journey.tenant, shares.cost(resumed === 1 ? 0 : promptTokens, drawn) - cost);
  }

  /** A running request holds `tokens`, more than was reserved: the reservation is for what it will need now. */
  grew(running: Running, tokens: number): void {
    const { journey } = running;
    const produced = Math.min(journey.maxTokens, tokens - journey.outputFrom);
    const share = this.#lengths.quantile(queryOf(journey), this.options.lengthShare, produced);
    this.reservations.grow(running, blocksFor(journey.outputFrom + share, this.options.blockTokens));
  }

  /** A lane's report. */
  load(message: MessageNamed<"load">, now: number): void {
    const { fused } = this.options;
    if ((message.role === PREFILL) !== fused) this.forecast.prefill(message.pair, message, now);
    if (message.role !== PREFILL) this.forecast.decode(message);
  }

  /** Predicted milliseconds until a newcomer's prompt is begun. */
  #waitMs(newcomer: WaitingRequest): number {
    const { reservations, options } = this;
    const ahead = this.queue.ahead(newcomer);
    const { offline } = newcomer;
    // Offline work gives way to interactive requests: it is not in their way.
    const inWay = offline ? reservations.blocks : reservations.blocks - reservations.offlineBlocks;
    const running = offline ? reservations.running.size : reservations.count(false);
    const unknown = options.retryAfterMs;
    const missingBlocks = ahead.blocks + newcomer.blocks - (reservations.totalBlocks - inWay);
    const missingPlaces =
      ahead.requests + running + 1 - Math.min(options.maxRunning, this.#mostDecoding(offline));
    const admittedMs = Math.max(
      this.#holding.predictMs(missingBlocks, inWay, unknown),
      this.#holding.predictMs(missingPlaces, running, unknown),
    );
    return this.forecast.waitMs(ahead, admittedMs);
  }

  #mostDecoding(offline: boolean): number {
    const { tpotMs } = this.options.objectives[offline ? 1 : 0];
    return this.forecast.mostDecoding(tpotMs / this.tokenBias.factor);
  }

  #clampRetry(ms: number): number {
    const { retryAfterMs, mostRetryAfterMs } = this.options;
    return Math.min(mostRetryAfterMs, Math.max(retryAfterMs, Math.ceil(ms)));
  }
}

function queryOf({ class: of, outputFrom, minTokens, maxTokens }: Journey): LengthQuery {
  return { offline: of === 1, promptTokens: outputFrom, minTokens, maxTokens };
}
