import type { RowResult } from "../engine/engine.js";
import type { DeliveredTokens } from "../gateway/generation.js";
import type { AppMessage, Journey, MessageNamed } from "./messages.js";

export type TokenRow = MessageNamed<"tokens">["rows"][number];

/** Tokens that were drawn before and go out (again) with a row's next result. */
export interface Carried {
  readonly ids: Uint32Array;
  readonly tokenLogprobs: Float32Array;
  readonly topIds: Uint32Array;
  readonly topLogprobs: Float32Array;
}

export const NOTHING_CARRIED: Carried = {
  ids: new Uint32Array(0),
  tokenLogprobs: new Float32Array(0),
  topIds: new Uint32Array(0),
  topLogprobs: new Float32Array(0),
};

/** Collects what a step drew into the one message that takes it to the gateway. */
export class TokenBatch {
  readonly #rows: TokenRow[] = [];
  readonly #ids: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #topIds: number[] = [];
  readonly #topLogprobs: number[] = [];

  get empty(): boolean {
    return this.#rows.length === 0;
  }

  /** Adds a row: `carried` (whose first token has output index `index`), then what `result` drew. */
  add(
    journey: Journey,
    index: number,
    carried: Carried | undefined,
    result: RowResult | undefined,
    finish: number,
    drafts: number,
    cachedTokens: number,
  ): void {
    let count = 0;
    if (carried) {
      count += carried.ids.length;
      append(this.#ids, carried.ids);
      append(this.#logprobs, carried.tokenLogprobs);
      append(this.#topIds, carried.topIds);
      append(this.#topLogprobs, carried.topLogprobs);
    }
    if (result) {
      count += result.tokens.length;
      append(this.#ids, result.tokens);
      append(this.#logprobs, result.logprobs);
      append(this.#topIds, result.topIds);
      append(this.#topLogprobs, result.topLogprobs);
    }
    this.#rows.push({
      request: journey.request,
      attempt: journey.attempt,
      index,
      count,
      finish,
      drafts,
      accepted: result?.accepted ?? 0,
      cachedTokens,
      logprobs: journey.logprobs >= 0 ? 1 : 0,
      top: Math.max(0, journey.logprobs),
    });
  }

  message(pair: number, role: number): AppMessage {
    return {
      type: "tokens",
      pair,
      role,
      rows: this.#rows,
      ids: Uint32Array.from(this.#ids),
      logprobs: Float32Array.from(this.#logprobs),
      topIds: Uint32Array.from(this.#topIds),
      topLogprobs: Float32Array.from(this.#topLogprobs),
    };
  }
}

function append(to: number[], from: ArrayLike<number>): void {
  for (let i = 0; i < from.length; i++) to.push(from[i] as number);
}

/** Calls `take` with each row of a message and its own copy of the row's tokens. */
export function eachRow(
  message: MessageNamed<"tokens">,
  take: (row: TokenRow, delivered: () => DeliveredTokens) => void,
): void {
  let id = 0;
  let logprob = 0;
  let top = 0;
  for (const row of message.rows) {
    const ids = id;
    const logprobs = logprob;
    const tops = top;
    id += row.count;
    logprob += row.count * row.logprobs;
    top += row.count * row.top;
    take(row, () => ({
      index: row.index,
      ids: message.ids.slice(ids, id),
      logprobs: message.logprobs.slice(logprobs, logprob),
      topIds: message.topIds.slice(tops, top),
      topLogprobs: message.topLogprobs.slice(tops, top),
    }));
  }
}
