import type { Answer } from "../engine/simulated-model.js";
import type { StreamServeError } from "../errors.js";
import type {
  DeliveredTokens,
  Generation,
  GenerationService,
  GenerationSink,
  GenerationSummary,
} from "../gateway/generation.js";
import type { PlannedRequest } from "./plan.js";
import { Violation } from "./violation.js";

/** The virtual clock, as the world outside the actors uses it. */
export interface Clock {
  now(): number;
  /** Calls `action` after `ms`, between two events of the actors. */
  after(ms: number, action: () => void): void;
}

/** How a request ended: `done`, or the code it failed with. */
export type Outcome = string;

/**
 * One client: submits its request, reads at its own pace, perhaps cancels, and compares everything it is given
 * with the true answer.
 */
export class SimulatedReader implements GenerationSink {
  submittedAt = Number.NaN;
  endedAt = Number.NaN;
  cancelledAt = Number.NaN;
  stoppedAt = Number.NaN;
  outcome: Outcome | undefined;
  received = 0;
  /** It has been admitted, and no lane has given it back. */
  inLanes = false;
  failure: StreamServeError | undefined;
  summary: GenerationSummary | undefined;
  #granted: number;
  #stages = 0;
  #generation: Generation | undefined;

  constructor(
    readonly number: number,
    readonly plan: PlannedRequest,
    readonly answer: Answer,
    private readonly clock: Clock,
    /** Told of the end, and of every delivery. */
    private readonly heard: (reader: SimulatedReader) => void,
    private readonly violated: (violation: Violation) => void,
  ) {
    this.#granted = plan.reader.credit;
  }

  get submitted(): boolean {
    return !Number.isNaN(this.submittedAt);
  }

  get ended(): boolean {
    return this.outcome !== undefined;
  }

  get cancelled(): boolean {
    return !Number.isNaN(this.cancelledAt);
  }

  get stopped(): boolean {
    return !Number.isNaN(this.stoppedAt);
  }

  /** When it was taken back, by cancel or stop; NaN if it was not. */
  get takenBackAt(): number {
    return this.cancelled ? this.cancelledAt : this.stoppedAt;
  }

  submit(service: GenerationService): void {
    const { plan } = this;
    this.submittedAt = this.clock.now();
    this.#generation = service.generate(
      {
        prompt: Uint32Array.from(plan.prompt),
        maxTokens: plan.maxTokens,
        sampling: plan.sampling,
        class: plan.class,
        ...(plan.tenant === undefined ? {} : { tenant: plan.tenant }),
        deadlineMs: plan.deadlineMs,
        credit: plan.reader.credit,
      },
      this,
    );
    if (plan.reader.grant > 0) this.#grantLater();
    if (plan.cancel?.kind === "time") this.clock.after(plan.cancel.atMs, () => this.cancel());
    if (plan.cancel?.kind === "tokens" && plan.cancel.count === 0) this.cancel();
  }

  /** A message of this type about the request was delivered; true if it is the one to cancel at. */
  stage(type: string): boolean {
    if (type === "admitted") this.inLanes = true;
    // Its last tokens may be there while its reader takes them slowly.
    if (type === "lost" || type === "ended") this.inLanes = false;
    const { cancel } = this.plan;
    if (cancel?.kind !== "message" || cancel.type !== type) return false;
    this.#stages++;
    return this.#stages === cancel.nth;
  }

  /** Cancels, unless the request has ended or was cancelled already. */
  cancel(): void {
    if (this.ended || this.cancelled || !this.#generation) return;
    this.cancelledAt = this.clock.now();
    this.#generation.cancel();
  }

  /** Has enough: the request is to end well. */
  stop(): void {
    if (this.ended || this.stopped || this.cancelled || !this.#generation) return;
    this.stoppedAt = this.clock.now();
    this.#generation.stop();
  }

  tokens(delivered: DeliveredTokens): void {
    this.#alive("got tokens");
    const wrong = this.#wrongTokens(delivered);
    if (wrong) this.#violate("stream", wrong);
    this.received += delivered.ids.length;
    if (this.received > this.#granted) {
      this.#violate("credit", `got ${this.received} tokens on credit for ${this.#granted}`);
    }
    this.heard(this);
    if (this.plan.cancel?.kind === "tokens" && this.received >= this.plan.cancel.count) this.cancel();
    if (this.received >= (this.plan.stopAfter ?? Number.POSITIVE_INFINITY)) this.stop();
  }

  done(summary: GenerationSummary): void {
    this.summary = summary;
    this.#end("done");
    const { answer, received } = this;
    const complete = received === answer.ids.length;
    if (!complete && !this.stopped) {
      this.#violate("stream", `was done after ${received} of ${answer.ids.length} tokens`);
    }
    const { finish, outputTokens, promptTokens, acceptedTokens, draftTokens } = summary;
    const right = complete && !this.stopped ? finish === (answer.stopped ? "stop" : "length") : true;
    if (!right) this.#violate("ending", `finished by ${finish}`);
    if (outputTokens !== received || promptTokens !== this.plan.prompt.length) {
      this.#violate("ending", `reports ${promptTokens} + ${outputTokens} tokens of usage`);
    }
    if (acceptedTokens > draftTokens) this.#violate("ending", "reports more accepted drafts than drafts");
  }

  failed(error: StreamServeError): void {
    this.failure = error;
    this.#end(error.code);
  }

  #wrongTokens({ ids, logprobs, index, topIds }: DeliveredTokens): string | undefined {
    const { answer, received } = this;
    if (ids.length === 0) return "got a delivery without tokens";
    if (index < received) return `got token ${index} again or out of order: token ${received} was next`;
    if (index > received) return `got token ${index} after a gap: token ${received} was next`;
    const wanted = this.plan.sampling.logprobs;
    const counts = `${logprobs.length} log-probabilities and ${topIds.length} likeliest for ${ids.length} tokens`;
    if (logprobs.length !== (wanted < 0 ? 0 : ids.length)) return `got ${counts}`;
    if (topIds.length !== ids.length * Math.max(0, wanted)) return `got ${counts}`;
    for (let i = 0; i < ids.length; i++) {
      const at = index + i;
      if (at >= answer.ids.length) return `got token ${at}, beyond the answer's end`;
      if (ids[i] !== answer.ids[at]) return `got ${ids[i]} as token ${at}, which is ${answer.ids[at]}`;
      if (wanted >= 0 && logprobs[i] !== answer.logprobs[at]) return `got token ${at} from wrong KV`;
    }
    return undefined;
  }

  #end(outcome: Outcome): void {
    this.#alive(`ended again (${outcome})`);
    this.outcome = outcome;
    this.endedAt = this.clock.now();
    this.heard(this);
  }

  #grantLater(): void {
    const { grant, everyMs } = this.plan.reader;
    this.clock.after(everyMs, () => {
      if (this.ended || this.cancelled) return;
      this.#granted += grant;
      this.#generation?.grant(grant);
      this.#grantLater();
    });
  }

  #alive(what: string): void {
    if (this.ended) this.#violate("ending", `${what} after it had ended (${this.outcome})`);
  }

  // Reported, not thrown: a sink never throws, and an actor would take a throw for its own.
  #violate(invariant: "stream" | "credit" | "ending", what: string): void {
    this.violated(new Violation(invariant, `request ${this.number} ${what}`));
  }
}
