import type { LaneEngine, RowResult, Sampling, SequenceHandle } from "../dist/engine/engine.js";
import { GREEDY } from "../dist/engine/engine.js";
import { resolveModel } from "../dist/model/resolve.js";

/** Drives a lane the way an actor does. */

/** The shipped model's file; STREAMSERVE_MODEL_PATH names another copy of it. */
export async function shippedModel(): Promise<string> {
  return process.env.STREAMSERVE_MODEL_PATH ?? resolveModel("smollm2-135m-instruct");
}

export interface Generated {
  readonly tokens: number[];
  readonly logprobs: number[];
  readonly topIds: number[];
  readonly topLogprobs: number[];
}

export const sampling = (changes: Partial<Sampling> = {}): Sampling => ({ ...GREEDY, ...changes });

export function append(to: Generated, row: RowResult): void {
  to.tokens.push(...row.tokens);
  to.logprobs.push(...row.logprobs);
  to.topIds.push(...row.topIds);
  to.topLogprobs.push(...row.topLogprobs);
}

export const nothing = (): Generated => ({ tokens: [], logprobs: [], topIds: [], topLogprobs: [] });

/** Computes a prompt in chunks and draws the first token. */
export function prefill(
  lane: LaneEngine,
  sequence: SequenceHandle,
  prompt: Uint32Array,
  from: number,
  chunk = prompt.length,
): RowResult {
  for (let at = from; ; at += chunk) {
    const last = at + chunk >= prompt.length;
    const tokens = prompt.subarray(at, at + chunk);
    const result = lane.submit([{ sequence, tokens, drafts: 0, sample: last }]).collect();
    if (last) return result.rows[0]!;
  }
}

/** Computes `tokens` in chunks and draws nothing. */
export function compute(
  lane: LaneEngine,
  sequence: SequenceHandle,
  tokens: Uint32Array,
  chunk: number,
): void {
  for (let at = 0; at < tokens.length; at += chunk) {
    const part = tokens.subarray(at, at + chunk);
    lane.submit([{ sequence, tokens: part, drafts: 0, sample: false }]).collect();
  }
}

/** One request alone: `count` tokens, or fewer up to a stop id. */
export function generate(
  lane: LaneEngine,
  prompt: Uint32Array,
  count: number,
  how: Sampling,
  chunk = lane.limits.maxBatchTokens,
): Generated {
  const { handle, cachedTokens } = lane.createSequence(prompt, prompt.length, how);
  const out = nothing();
  let row = prefill(lane, handle, prompt, cachedTokens, chunk);
  append(out, row);
  while (out.tokens.length < count && !row.stopped) {
    const tokens = [out.tokens.at(-1)!];
    row = lane.submit([{ sequence: handle, tokens, drafts: 0, sample: true }]).collect().rows[0]!;
    append(out, row);
  }
  lane.release(handle);
  return out;
}
