import { StreamServeError } from "../errors.js";
import { onAbort } from "./abort.js";
import type { Completion, Ending, TextDelta, TextGeneration, TokenLogprob } from "./text-generation.js";

/** What a stream asks of whoever feeds it. */
export interface StreamSource {
  /** The reader has taken deltas that cover so many tokens: as many more may be sent. */
  consumed(tokens: number): void;
  /** The reader wants no more. `end` or `fail` still follows. */
  cancel(): void;
}

interface Waiter {
  resolve(result: IteratorResult<TextDelta, Ending>): void;
  reject(error: Error): void;
}

/**
 * Joins a feeder that pushes deltas and a reader that iterates them. The queue between them is bounded by the
 * credit that `consumed` gives back. Runs in Node and browsers.
 */
export class GenerationStream implements TextGeneration {
  readonly #source: StreamSource;
  /** Lets go of the signal. */
  readonly #release: () => void = () => undefined;
  #queue: TextDelta[] = [];
  #waiters: Waiter[] = [];
  #ending: Ending | undefined;
  #error: StreamServeError | undefined;
  #cancelled = false;
  #completion: Promise<Completion> | undefined;

  /** A `signal` that is none is left to whoever checks the options. */
  constructor(source: StreamSource, signal?: AbortSignal) {
    this.#source = source;
    if (!(signal instanceof AbortSignal)) return;
    const aborted = () => this.#cancel(signal.reason);
    if (signal.aborted) queueMicrotask(aborted);
    else this.#release = onAbort(signal, aborted);
  }

  get ending(): Ending | undefined {
    return this.#ending;
  }

  /** True once `end` or `fail` was called. */
  get settled(): boolean {
    return this.#ending !== undefined || this.#error !== undefined;
  }

  /** For the feeder: the next delta. */
  push(delta: TextDelta): void {
    if (this.settled || this.#cancelled) return;
    const waiter = this.#waiters.shift();
    if (waiter === undefined) {
      this.#queue.push(delta);
      return;
    }
    this.#source.consumed(delta.tokens);
    waiter.resolve({ done: false, value: delta });
  }

  /** For the feeder: the generation is complete. */
  end(ending: Ending): void {
    if (this.settled) return;
    this.#ending = ending;
    this.#settle();
    for (const waiter of this.#waiters.splice(0)) waiter.resolve({ done: true, value: ending });
  }

  /** For the feeder: the generation failed. */
  fail(error: StreamServeError): void {
    if (this.settled) return;
    this.#error = error;
    this.#settle();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }

  next(): Promise<IteratorResult<TextDelta, Ending>> {
    const delta = this.#queue.shift();
    if (delta !== undefined) {
      this.#source.consumed(delta.tokens);
      return Promise.resolve({ done: false, value: delta });
    }
    if (this.#error !== undefined) return Promise.reject(this.#error);
    if (this.#ending !== undefined) return Promise.resolve({ done: true, value: this.#ending });
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  /** Called when a `for await` loop is left early. */
  async return(): Promise<IteratorResult<TextDelta, Ending>> {
    this.cancel();
    // A generation that was cut short has no ending: the loop that asked for this does not look at it.
    return { done: true, value: this.#ending as Ending };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  cancel(): void {
    this.#cancel(undefined);
  }

  #cancel(cause: unknown): void {
    if (this.settled || this.#cancelled) return;
    this.#cancelled = true;
    this.#queue = [];
    this.#source.cancel();
    const why = cause === undefined ? {} : { cause };
    this.fail(new StreamServeError("cancelled", "The generation was cancelled.", {}, why));
  }

  completion(): Promise<Completion> {
    this.#completion ??= this.#readToEnd();
    return this.#completion;
  }

  async #readToEnd(): Promise<Completion> {
    let text = "";
    const logprobs: TokenLogprob[] = [];
    for (;;) {
      const step = await this.next();
      if (step.done) return { ...step.value, text, logprobs };
      text += step.value.text;
      logprobs.push(...step.value.logprobs);
    }
  }

  async text(): Promise<string> {
    return (await this.completion()).text;
  }

  #settle(): void {
    this.#release();
  }
}
