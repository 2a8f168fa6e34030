import type { LaneEngine } from "../engine/engine.js";
import type { ActorRef, Behaviour, Context } from "../runtime/actor.js";
import { DecodeRow } from "./decode-row.js";
import { Decoding, type DecodingOptions } from "./decoding.js";
import { openPrompt } from "./direct-prompt.js";
import { codeOf, tellFailed, tellLost } from "./endings.js";
import { LaneMeter } from "./lane-meter.js";
import { type AppMessage, DECODE, LOST, type MessageNamed } from "./messages.js";
import { Outbox } from "./outbox.js";
import { copyPrompt } from "./prompt-region.js";

export interface DecodeOptions extends DecodingOptions {
  readonly reportMs: number;
}

type Ctx = Context<AppMessage>;

const NO_PROMPT = new Uint32Array(0);

/**
 * Takes over sequences whose prompts are computed, and prompts that come straight from the router, and draws their
 * output (decoding.ts). While a step computes, the mailbox is served.
 */
export class DecodeLane implements Behaviour<AppMessage> {
  readonly #meter: LaneMeter;
  readonly #decoding: Decoding;
  #gateway!: ActorRef;
  #audience!: readonly ActorRef[];
  #scheduler!: Outbox;

  constructor(
    readonly options: DecodeOptions,
    readonly engine: LaneEngine,
  ) {
    this.#meter = new LaneMeter(DECODE, options.pair, engine, options.reportMs, options.stepCost);
    this.#decoding = new Decoding(options, engine, this.#meter);
  }

  started(ctx: Ctx): void {
    this.#gateway = ctx.ref("gateway");
    const tuner = ctx.ref("tuner");
    const scheduler = ctx.ref("scheduler");
    this.#audience = [ctx.ref("router"), this.#gateway, scheduler];
    this.#scheduler = new Outbox(scheduler);
    this.#decoding.started({ gateway: this.#gateway, tuner, scheduler: this.#scheduler });
    ctx.tell(ctx.ref("router"), { type: "hello", incarnation: ctx.incarnation });
    this.#scheduler.send(ctx, { type: "hello", incarnation: ctx.incarnation });
    ctx.tell(tuner, { type: "hello", incarnation: ctx.incarnation });
  }

  receive(message: AppMessage, ctx: Ctx): void {
    const { rows } = this.#decoding;
    switch (message.type) {
      case "handoff":
        this.#take(message, ctx);
        return;
      case "route":
        this.#takePrompt(message, ctx);
        return;
      case "credit":
        this.#decoding.credit(message);
        return;
      case "cancel":
        this.#decoding.cancel(message, ctx);
        return;
      case "hold":
        rows.holdOffline(message);
        return;
      case "survival":
        this.#decoding.survival(message);
        return;
      case "reset":
        rows.advance(message.generation);
        return;
      case "audit":
        // It comes through the prefill lane after that lane's death, behind all that the dead one could still send.
        this.engine.releaseStranded();
        // Even a lane with nothing to do is heard of now and then: what is never heard of stands still.
        this.#meter.touch();
        rows.answer(ctx, this.#scheduler, message, DECODE, this.options.pair);
        return;
      case "retry":
        this.#scheduler.retry(ctx);
        return;
      case "tick":
        this.#decoding.tick();
        return;
    }
  }

  drained(ctx: Ctx): void {
    this.#scheduler.flush(ctx);
    if (!ctx.working) this.#decoding.startStep(ctx);
    this.#decoding.learn();
    const { rows, speculation } = this.#decoding;
    if (this.#meter.due(ctx, rows.size === 0)) {
      this.#meter.report(ctx, this.#audience, this.#decoding.load(ctx.now()), speculation);
    }
  }

  inspect(): Readonly<Record<string, unknown>> {
    const { size, holdsOffline, generation } = this.#decoding.rows;
    return { rows: size, depth: this.#decoding.depth, holds: holdsOffline, generation };
  }

  stopped(): void {
    this.engine.close();
  }

  #take(message: MessageNamed<"handoff">, ctx: Ctx): void {
    const { rows } = this.#decoding;
    rows.advance(message.generation);
    if (message.moved === 0) this.#meter.taken++;
    this.#meter.touch();
    const startedAt = ctx.now();
    const handle = { index: message.handle, epoch: message.epoch };
    try {
      this.engine.adopt(handle);
    } catch (error) {
      // A predecessor of this lane died with the sequence on its way: the pool has taken it back.
      ctx.log("warn", "hand-off came too late", { request: message.request, code: codeOf(error) });
      tellLost(ctx, this.#gateway, message, LOST.lane);
      return;
    }
    if (!rows.admits(message)) {
      this.engine.release(handle);
      return;
    }
    const drafts = this.#decoding.speculation?.drafts;
    const prompt = drafts ? copyPrompt(message, ctx.bytes(message.prompt)) : NO_PROMPT;
    rows.put(new DecodeRow(message, handle, prompt, drafts, NO_PROMPT, this.engine.draft));
    ctx.trace("adopt", startedAt, message.request, rows.size);
  }

  /** A prompt that comes straight from the router: short, or mostly cached. It is computed among the rows' steps. */
  #takePrompt(message: MessageNamed<"route">, ctx: Ctx): void {
    const { rows } = this.#decoding;
    rows.advance(message.generation);
    this.#meter.taken++;
    this.#meter.touch();
    if (!rows.admits(message)) return;
    try {
      const bytes = ctx.bytes(message.prompt);
      rows.put(openPrompt(this.engine, message, bytes, this.#decoding.speculation?.drafts));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      ctx.log("error", "prompt refused", { request: message.request, reason });
      tellFailed(ctx, this.#gateway, message, codeOf(error), reason);
    }
  }
}

/** Builds a decode lane; `resources` is its face of the engine. */
export function decodeLane(options: DecodeOptions, resources: LaneEngine): Behaviour<AppMessage> {
  return new DecodeLane(options, resources);
}
