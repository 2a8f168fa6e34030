import type { LaneEngine, SequenceHandle } from "../engine/engine.js";
import { openSequence, timeStep, timeStepAlone } from "./timed-step.js";

/**
 * What steps take beside their tokens. Each probe times two steps by turns that differ in one thing: a machine's speed
 * changes, and steps timed one after another tell their difference best.
 */
export interface Probe {
  readonly lane: LaneEngine;
  /** Milliseconds that a new token takes, at most. */
  readonly tokenMs: number;
  /** Milliseconds that the probe may take; its first round is begun only if it fits. */
  readonly budgetMs: number;
}

/** Rounds at most; of each kind of step the least time counts. */
const ROUNDS = 8;
/** Tokens of context: fewer tell nothing beside the noise of a step, more take time to make. */
const LEAST_CONTEXT = 48;
const MOST_CONTEXT = 256;
/** Share of the budget that making context may take, where the steps that read it are short. */
const MAKING = 0.75;
/** Rows of the step that tells what rows cost: some of a kernel's panel. */
const ROWS = 8;

/**
 * Milliseconds that a row takes after the first; undefined where lane or budget have no room, or the
 * machine was too busy to tell. This and the others throw what the engine throws, and leave nothing behind.
 */
export function probeRows({ lane, tokenMs, budgetMs }: Probe): number | undefined {
  const { maxRows, maxBatchTokens } = lane.limits;
  const fits = Math.min(maxRows, maxBatchTokens, spareBlocks(lane) - 1) >= ROWS;
  if (!fits || 2 * ROWS * tokenMs > budgetMs) return undefined;
  const sequences = Array.from({ length: ROWS }, () => openSequence(lane));
  try {
    const endAt = performance.now() + budgetMs;
    const together = () => timeStep(lane, sequences, 1);
    const [rows, alone] = leastTimes(endAt, [together, () => timeStepAlone(lane, ROWS, ROWS - 1)]);
    return seen((rows - alone) / (ROWS - 1));
  } finally {
    for (const sequence of sequences) lane.release(sequence);
  }
}

/** Milliseconds that a thousand tokens of context take to read. */
export function probeReading({ lane, tokenMs, budgetMs }: Probe): number | undefined {
  const context = roomFor(lane, (MAKING * budgetMs) / tokenMs, ROUNDS);
  if (context < LEAST_CONTEXT) return undefined;
  const sequence = openSequence(lane);
  try {
    const endAt = performance.now() + budgetMs;
    timeStep(lane, [sequence], context);
    const [reading, alone] = leastTimes(endAt, [
      () => timeStep(lane, [sequence], 1),
      () => timeStepAlone(lane, 1, 0),
    ]);
    return seen((1000 * (reading - alone)) / context);
  } finally {
    lane.release(sequence);
  }
}

/** Milliseconds that a thousand tokens of context take a row's further tokens to attend to, each. */
export function probeAttending({ lane, tokenMs, budgetMs }: Probe): number | undefined {
  const chunk = roomFor(lane, budgetMs / (2 * tokenMs), 0);
  if (chunk < LEAST_CONTEXT) return undefined;
  let sequence: SequenceHandle | undefined;
  const beginning = () => {
    if (sequence !== undefined) lane.release(sequence);
    sequence = openSequence(lane);
    return timeStep(lane, [sequence], chunk);
  };
  try {
    const endAt = performance.now() + budgetMs;
    const [alone, behind] = leastTimes(endAt, [beginning, () => timeStep(lane, [sequence!], chunk)]);
    return seen((1000 * (behind - alone)) / (chunk * (chunk - 1)));
  } finally {
    if (sequence !== undefined) lane.release(sequence);
  }
}

/** More work never takes less time: where it was seen to, the machine did something else. */
function seen(ms: number): number | undefined {
  return ms > 0 ? ms : undefined;
}

function spareBlocks(lane: LaneEngine): number {
  const { freeBlocks, cachedBlocks } = lane.kv();
  return freeBlocks + cachedBlocks;
}

/** A step's tokens, at most `most`, of which as many again and `more` find room behind them. */
function roomFor(lane: LaneEngine, most: number, more: number): number {
  const { contextTokens, blockTokens, maxBatchTokens } = lane.limits;
  // A step without context has a block of its own.
  const room = Math.min(contextTokens - 1, (spareBlocks(lane) - 1) * blockTokens);
  return Math.floor(Math.min(MOST_CONTEXT, maxBatchTokens, most, (room - more) / 2));
}

/** The least milliseconds of each of two steps, taken by turns until `endAt`. */
function leastTimes(endAt: number, [first, second]: readonly [() => number, () => number]): [number, number] {
  const least: [number, number] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let round = 0; round < ROUNDS && (round === 0 || performance.now() < endAt); round++) {
    least[0] = Math.min(least[0], first());
    least[1] = Math.min(least[1], second());
  }
  return least;
}
