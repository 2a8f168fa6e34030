import type { LaneEngine, RowResult, SequenceHandle } from "../engine/engine.js";
import type { ActorRef, Context } from "../runtime/actor.js";
import { DecodeRow } from "./decode-row.js";
import { Decoding, type DecodingAudience, type DecodingOptions } from "./decoding.js";
import { LaneMeter } from "./lane-meter.js";
import { type AppMessage, DECODE } from "./messages.js";
import type { PrefillPrompt } from "./prefill-prompt.js";
import { NOTHING_CARRIED } from "./token-batch.js";

type Ctx = Context<AppMessage>;

/** Tokens of a row that a hand-over carries, at most: they must fit a mailbox. One that drew more stays. */
const MOST_CARRIED = 1024;

/**
 * Sequences that a prefill lane decodes itself, because its pair's decode lane is full and it is not. When prompts pile
 * up they go to the decode lane after all, in the midst of their output.
 */
export class KeptRows {
  readonly decoding: Decoding;
  /** Requests that came to be kept, ever. */
  taken = 0;

  constructor(
    options: DecodingOptions,
    readonly engine: LaneEngine,
  ) {
    // Its steps are not the prefill lane's own: they are learnt from, and not reported.
    const meter = new LaneMeter(DECODE, options.pair, engine, Number.POSITIVE_INFINITY, options.stepCost);
    this.decoding = new Decoding(options, engine, meter);
  }

  started(audience: DecodingAudience): void {
    this.decoding.started(audience);
  }

  /** Keeps the sequence of a prompt that is computed, with the token that was drawn. */
  keep(prompt: PrefillPrompt, handle: SequenceHandle, drawn: RowResult): void {
    const journey = prompt.handOff(handle, drawn);
    const drafts = this.decoding.speculation?.drafts;
    const row = new DecodeRow(journey, handle, prompt.tokens, drafts, undefined, this.engine.draft);
    // It was sent on the same way that its next tokens take.
    row.carried = undefined;
    row.drawn = [...journey.ids];
    this.decoding.rows.put(row);
  }

  /** Hands over what it can to lane `to` of the engine, whose actor is `decode`. No step may be running. */
  handBack(to: number, decode: ActorRef, ctx: Ctx): void {
    for (const row of [...this.decoding.rows.values()]) {
      const { journey, drawn = [] } = row;
      if (journey.logprobs >= 0 || drawn.length > MOST_CARRIED) continue;
      const startedAt = ctx.now();
      this.engine.handOver(row.handle, to);
      this.decoding.rows.forget(row);
      row.close();
      const told = ctx.tell(decode, {
        ...journey,
        creditUpTo: row.creditUpTo,
        ...NOTHING_CARRIED,
        ids: Uint32Array.from(drawn),
      });
      // It is gone for good, and adopts nothing: an audit will find the request in no lane.
      if (!told) this.engine.release(row.handle);
      ctx.trace("hand back", startedAt, journey.request, drawn.length);
    }
  }
}
