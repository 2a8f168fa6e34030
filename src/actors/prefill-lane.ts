import type { LaneEngine, RowResult, StepResult, StepRow } from "../engine/engine.js";
import { chunkTokens, orderPrefills } from "../policy/chunking.js";
import type { StepCostPrior } from "../policy/step-cost.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import type { DecodingOptions } from "./decoding.js";
import { codeOf, finishOf, tellCancelled, tellFailed, tellLost } from "./endings.js";
import { Holding } from "./holding.js";
import { KeptRows } from "./kept-rows.js";
import { LaneMeter } from "./lane-meter.js";
import { type AppMessage, CANCEL, FINISH, LOST, type MessageNamed, PREFILL } from "./messages.js";
import { Outbox } from "./outbox.js";
import { PrefillPrompt } from "./prefill-prompt.js";
import { TokenBatch } from "./token-batch.js";

export interface PrefillOptions {
  readonly pair: number;
  /** Number of the pair's decode lane in the engine: where sequences are handed over to. */
  readonly decodeLane: number;
  /** Rows of a step that the engine takes; prompts in a step, at most. */
  readonly maxRows: number;
  readonly promptRows: number;
  readonly maxBatchTokens: number;
  /** New tokens of a step of offline prompts alone, at most. */
  readonly offlineBatchTokens: number;
  readonly agingTokensPerMs: number;
  readonly reportMs: number;
  /** What its steps are assumed to take at first. */
  readonly stepCost: StepCostPrior;
  /** How long to wait for KV blocks before the prompt is given back, and how often to look, in milliseconds. */
  readonly kvPatienceMs: number;
  readonly kvRetryMs: number;
  /** How it decodes what it is told to keep; absent where it keeps nothing. */
  readonly kept?: DecodingOptions;
}

type Ctx = Context<AppMessage>;

/**
 * Rows kept go to the decode lane when prompts for more than so many steps wait: each of their steps holds those up, and
 * where prompts come as fast as they can be computed that time is never made good.
 */
const CROWDED_STEPS = 1;

/**
 * Computes prompts in chunks, several prompts a step, and draws each one's first token, which goes straight to
 * the gateway. The sequence is then handed to the pair's decode lane: from that moment the prompt is not here
 * any more, and a cancel for it is passed on. What the router wants kept is decoded here, prompts and rows in turns
 * (kept-rows.ts).
 */
export class PrefillLane implements Behaviour<AppMessage> {
  readonly #prompts: Holding<PrefillPrompt>;
  readonly #meter: LaneMeter;
  readonly #kept: KeptRows | undefined;
  /** Whose turn is next: that of the rows kept, or that of prompts. */
  #rowsAreNext = false;
  /** Rows kept that the last report told of. */
  #keptReported = 0;
  /** Rows of the next step at most: halved when the pool is short of blocks, 1 after a step was refused. */
  #rowLimit: number;
  #shortSince: number | undefined;
  #retrying = false;
  #gateway!: ActorRef;
  #decode!: ActorRef;
  #audience!: readonly ActorRef[];
  #scheduler!: Outbox;

  constructor(
    readonly options: PrefillOptions,
    readonly engine: LaneEngine,
  ) {
    this.#meter = new LaneMeter(PREFILL, options.pair, engine, options.reportMs, options.stepCost);
    this.#prompts = new Holding(
      (prompt) => {
        // The router counts it for the decode lane until it hears otherwise.
        if (!prompt.keep) this.#meter.ended++;
        prompt.close(engine);
      },
      () => this.#meter.touch(),
    );
    this.#rowLimit = options.promptRows;
    if (options.kept) this.#kept = new KeptRows(options.kept, engine);
  }

  started(ctx: Ctx): void {
    this.#gateway = ctx.ref("gateway");
    this.#decode = ctx.ref(`decode.${this.options.pair}`);
    const scheduler = ctx.ref("scheduler");
    this.#audience = [ctx.ref("router"), this.#gateway, scheduler];
    this.#scheduler = new Outbox(scheduler);
    if (this.#kept) {
      const tuner = ctx.ref("tuner");
      this.#kept.started({ gateway: this.#gateway, tuner, scheduler: this.#scheduler });
      ctx.tell(tuner, { type: "hello", incarnation: ctx.incarnation });
    }
    ctx.tell(ctx.ref("router"), { type: "hello", incarnation: ctx.incarnation });
    this.#scheduler.send(ctx, { type: "hello", incarnation: ctx.incarnation });
  }

  receive(message: AppMessage, ctx: Ctx): void {
    switch (message.type) {
      case "route":
        this.#take(message, ctx);
        return;
      case "cancel": {
        const prompt = this.#prompts.cancelled(message);
        if (prompt) {
          if (message.reason === CANCEL.preempted) this.#meter.preemptions++;
          this.#prompts.leave(prompt, () =>
            tellCancelled(ctx, this.#gateway, prompt.journey, message.reason),
          );
        } else if (!this.#kept?.decoding.cancel(message, ctx)) ctx.tell(this.#decode, message);
        return;
      }
      case "hold":
        this.#prompts.holdOffline(message);
        this.#kept?.decoding.rows.holdOffline(message);
        return;
      case "reset":
        this.#prompts.advance(message.generation);
        this.#kept?.decoding.rows.advance(message.generation);
        ctx.tell(this.#decode, message);
        return;
      case "audit": {
        this.#meter.touch();
        const rows = this.#kept?.decoding.rows;
        this.#prompts.answer(ctx, this.#scheduler, message, PREFILL, this.options.pair, rows);
        ctx.tell(this.#decode, message);
        return;
      }
      case "credit":
        // What was handed back has a reader who does not know yet.
        if (!this.#kept?.decoding.credit(message)) ctx.tell(this.#decode, message);
        return;
      case "survival":
        this.#kept?.decoding.survival(message);
        return;
      case "retry":
        this.#scheduler.retry(ctx);
        return;
      case "tick":
        this.#retrying = false;
        this.#kept?.decoding.tick();
        return;
    }
  }

  drained(ctx: Ctx): void {
    this.#scheduler.flush(ctx);
    if (!ctx.working) this.#startNext(ctx);
    this.#kept?.decoding.learn();
    this.#report(ctx);
  }

  inspect(): Readonly<Record<string, unknown>> {
    return {
      prompts: this.#prompts.size,
      kept: this.#kept?.decoding.rows.size ?? 0,
      holds: this.#prompts.holdsOffline,
      generation: this.#prompts.generation,
    };
  }

  stopped(): void {
    this.engine.close();
  }

  #take(message: MessageNamed<"route">, ctx: Ctx): void {
    this.#prompts.advance(message.generation);
    const keep = message.keep === 1 && this.#kept !== undefined;
    if (keep) this.#kept!.taken++;
    this.#meter.taken += message.promptTokens - message.cached;
    if (!this.#prompts.admits(message)) {
      // The router counts it as on its way to the decode lane.
      if (!keep) this.#meter.ended++;
      this.#meter.touch();
      return;
    }
    this.#prompts.put(new PrefillPrompt(message, ctx.bytes(message.prompt), ctx.now(), message, keep));
  }

  /** A step of prompts or of rows kept, in turns while there are both. */
  #startNext(ctx: Ctx): void {
    const kept = this.#kept;
    if (kept && kept.decoding.rows.size > 0 && this.#crowded) {
      kept.handBack(this.options.decodeLane, this.#decode, ctx);
    }
    if (this.#rowsAreNext && kept?.decoding.startStep(ctx)) {
      this.#rowsAreNext = false;
      return;
    }
    this.#rowsAreNext = !this.#retrying && this.#startStep(ctx);
    if (!this.#rowsAreNext) kept?.decoding.startStep(ctx);
  }

  /** More prompts wait than a few steps compute: rows kept would hold them up. */
  get #crowded(): boolean {
    let tokens = 0;
    for (const prompt of this.#prompts.values()) tokens += prompt.expected;
    return tokens > CROWDED_STEPS * this.options.maxBatchTokens;
  }

  /** False when there was nothing to begin. */
  #startStep(ctx: Ctx): boolean {
    this.#expire(ctx);
    if (this.#prompts.size === 0) return false;
    const rows: StepRow[] = [];
    const step: PrefillPrompt[] = [];
    const { maxRows, maxBatchTokens } = this.engine.limits;
    const most = Math.min(this.#rowLimit, maxRows);
    const prompts = orderPrefills([...this.#prompts.values()], this.options.agingTokensPerMs);
    // A step that interactive work may have to wait for is a short one, and one with interactive work has no other.
    const offline = prompts[0]!.offline;
    const chunk = offline ? this.options.offlineBatchTokens : this.options.maxBatchTokens;
    const budget = Math.min(chunk, maxBatchTokens);
    let tokens = 0;
    for (const prompt of prompts) {
      if (tokens >= budget || rows.length === most || prompt.offline !== offline) break;
      if (offline && this.#prompts.holdsOffline) break;
      const row = this.#row(prompt, budget - tokens, ctx);
      if (!row) continue;
      tokens += row.tokens.length;
      rows.push(row);
      step.push(prompt);
    }
    if (rows.length === 0) return false;
    const startedAt = ctx.now();
    this.#prompts.beginStep(step, startedAt);
    ctx.work(
      () => this.engine.submit(rows),
      (result: StepResult) => {
        ctx.trace("prefill", startedAt, step[0]!.journey.request, tokens);
        const contextTokens = step.reduce((sum, prompt) => sum + prompt.computed, 0);
        this.#meter.step(result, { rows: step.length, tokens, contextTokens }, tokens);
        this.#finishStep(rows, result, ctx);
      },
      (error) => this.#failStep(error, ctx),
    );
    return true;
  }

  /** The prompt's next chunk; undefined when the engine does not take the prompt at all. */
  #row(prompt: PrefillPrompt, budget: number, ctx: Ctx): StepRow | undefined {
    try {
      const sequence = prompt.open(this.engine);
      const count = chunkTokens(prompt.remaining, budget);
      const tokens = prompt.tokens.subarray(prompt.computed, prompt.computed + count);
      return { sequence, tokens, drafts: 0, sample: count === prompt.remaining };
    } catch (error) {
      this.#fail(prompt, error, ctx);
      return undefined;
    }
  }

  #finishStep(rows: readonly StepRow[], result: StepResult, ctx: Ctx): void {
    this.#rowLimit = this.options.promptRows;
    this.#shortSince = undefined;
    const batch = new TokenBatch();
    const handOffs: (() => void)[] = [];
    const step = this.#prompts.endStep();
    step.forEach((prompt, i) => {
      prompt.computed += rows[i]!.tokens.length;
      if (prompt.leaving || !rows[i]!.sample) return;
      const drawn = result.rows[i]!;
      this.#meter.answered(ctx.now() - prompt.dueAt);
      const finish = finishOf(drawn, prompt.firstIndex + drawn.tokens.length, prompt.journey);
      if (finish !== FINISH.none) this.#prompts.leave(prompt, () => {});
      else handOffs.push(() => this.#handOff(prompt, drawn, ctx));
      batch.add(prompt.journey, prompt.firstIndex, undefined, drawn, finish, 0, prompt.cachedTokens);
    });
    // First tokens before hand-offs: they are what someone waits for.
    if (!batch.empty) ctx.tell(this.#gateway, batch.message(this.options.pair, PREFILL));
    for (const handOff of handOffs) handOff();
    this.#prompts.staying(step);
  }

  #handOff(prompt: PrefillPrompt, drawn: RowResult, ctx: Ctx): void {
    const { handle, journey } = prompt;
    if (!handle) return;
    const startedAt = ctx.now();
    if (prompt.keep && this.#kept && !this.#crowded) {
      this.#prompts.forget(prompt);
      this.#kept.keep(prompt, handle, drawn);
      ctx.trace("keep", startedAt, journey.request, this.#kept.decoding.rows.size);
      return;
    }
    try {
      this.engine.handOver(handle, this.options.decodeLane);
    } catch (error) {
      ctx.log("warn", "hand-over failed", { request: journey.request, error: String(error) });
      this.#prompts.leave(prompt, () => tellLost(ctx, this.#gateway, journey, LOST.lane));
      return;
    }
    this.#prompts.forget(prompt);
    if (!ctx.tell(this.#decode, prompt.handOff(handle, drawn))) {
      // It is gone for good, and adopts nothing.
      this.engine.release(handle);
      tellLost(ctx, this.#gateway, journey, LOST.lane);
    }
    ctx.trace("hand over", startedAt, journey.request, journey.promptTokens);
  }

  #failStep(error: Error, ctx: Ctx): void {
    const staying = this.#prompts.staying(this.#prompts.endStep());
    if (codeOf(error) === "kv_exhausted") this.#shortOfBlocks(staying, ctx);
    // One of several is at fault: the next steps take them one by one, so that the others go on.
    else if (staying.length > 1) this.#rowLimit = 1;
    else for (const prompt of staying) this.#fail(prompt, error, ctx);
  }

  #shortOfBlocks(step: readonly PrefillPrompt[], ctx: Ctx): void {
    if (step.length > 1) {
      this.#rowLimit = Math.max(1, step.length >> 1);
      return;
    }
    const [first] = step;
    this.#shortSince ??= ctx.now();
    // Prompts half done hold blocks that the first in line may need.
    const others = [...this.#prompts.values()].filter((prompt) => prompt.handle && prompt !== first);
    const youngest = others.findLast((prompt) => prompt.offline) ?? others.at(-1);
    if (youngest) {
      youngest.close(this.engine);
      return;
    }
    if (first && ctx.now() - this.#shortSince >= this.options.kvPatienceMs) {
      this.#shortSince = undefined;
      this.#meter.preemptions++;
      this.#prompts.leave(first, () => tellLost(ctx, this.#gateway, first.journey, LOST.preempted));
      return;
    }
    this.#retrying = true;
    ctx.after(this.options.kvRetryMs, { type: "tick" });
  }

  #expire(ctx: Ctx): void {
    const now = ctx.now();
    for (const prompt of this.#prompts.values()) {
      const { deadline } = prompt.journey;
      if (deadline === 0 || deadline > now) continue;
      this.#prompts.leave(prompt, () => tellCancelled(ctx, this.#gateway, prompt.journey, CANCEL.deadline));
    }
  }

  #fail(prompt: PrefillPrompt, error: unknown, ctx: Ctx): void {
    const reason = error instanceof Error ? error.message : String(error);
    ctx.log("error", "prefill failed", { request: prompt.journey.request, reason });
    this.#prompts.leave(prompt, () => tellFailed(ctx, this.#gateway, prompt.journey, codeOf(error), reason));
  }

  #report(ctx: Ctx): void {
    const kept = this.#kept?.decoding;
    let keptRows = kept?.rows.size ?? 0;
    if (keptRows !== this.#keptReported) this.#meter.touch();
    if (!this.#meter.due(ctx, this.#prompts.size + keptRows === 0)) return;
    this.#keptReported = keptRows;
    let queuedTokens = 0;
    let contextTokens = 0;
    const rows = kept?.load(ctx.now());
    let keptContext = rows?.contextTokens ?? 0;
    for (const prompt of this.#prompts.values()) {
      queuedTokens += prompt.expected;
      contextTokens += prompt.computed;
      if (!prompt.keep) continue;
      keptRows++;
      keptContext += prompt.tokens.length;
    }
    this.#meter.report(
      ctx,
      this.#audience,
      {
        rows: this.#prompts.inStep,
        queued: Math.max(0, this.#prompts.size - this.#prompts.inStep),
        queuedTokens,
        contextTokens,
        stepForMs: Math.max(this.#prompts.stepForMs(ctx.now()), rows?.stepForMs ?? -1),
      },
      kept?.speculation,
      { rows: keptRows, contextTokens: keptContext, taken: this.#kept?.taken ?? 0 },
    );
  }
}

/** Builds a prefill lane; `resources` is its face of the engine. */
export function prefillLane(options: PrefillOptions, resources: LaneEngine): Behaviour<AppMessage> {
  return new PrefillLane(options, resources);
}
