import { GREEDY, type LaneEngine, type SequenceHandle } from "../engine/engine.js";

/** Steps timed before the first request. Their tokens are arbitrary: time does not depend on them. All throw what the engine throws. */

/** A sequence without context, the caller's to release. */
export function openSequence(lane: LaneEngine): SequenceHandle {
  return lane.createSequence(Uint32Array.of(1), 1, GREEDY).handle;
}

/** Milliseconds of a step with so many new tokens a row, of which the last `drafts` are verified. */
export function timeStep(
  lane: LaneEngine,
  sequences: readonly SequenceHandle[],
  tokens: number,
  drafts = 0,
): number {
  const { vocabulary } = lane.limits;
  const ids = Uint32Array.from({ length: tokens }, (_, i) => (i * 7919 + 1) % vocabulary);
  const batch = sequences.map((sequence) => ({ sequence, tokens: ids, drafts, sample: true }));
  return lane.submit(batch).collect().computeMs;
}

/** The same of one row without context. */
export function timeStepAlone(lane: LaneEngine, tokens: number, drafts: number): number {
  const sequence = openSequence(lane);
  try {
    return timeStep(lane, [sequence], tokens, drafts);
  } finally {
    lane.release(sequence);
  }
}
