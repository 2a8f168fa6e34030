import type { RowResult, StepResult, StepRow } from "./engine.js";

/**
 * Flat forms of a batch and of its result, as src/native/binding/step_calls.cpp reads and writes them: nothing on
 * the token path walks objects across the binding.
 */

const ROW_FIELDS = 5;
const OUTCOME_FIELDS = 4;
/** Milliseconds at the head of a result's floats: computing, waiting, sharing cores. */
const TIMES = 3;
/** Log-probabilities reported beside a token, at most. */
const MOST_TOP = 20;

/** Packs `rows` into `into` and returns the part used; grows by returning a larger array. */
export function packBatch(rows: readonly StepRow[], into: Int32Array): Int32Array {
  let length = 1 + rows.length * ROW_FIELDS;
  for (const row of rows) length += row.tokens.length;
  const packed = length > into.length ? new Int32Array(length) : into.subarray(0, length);
  packed[0] = rows.length;
  let field = 1;
  let token = 1 + rows.length * ROW_FIELDS;
  for (const row of rows) {
    packed[field] = row.sequence.index;
    packed[field + 1] = row.sequence.epoch;
    packed[field + 2] = row.tokens.length;
    packed[field + 3] = row.drafts;
    packed[field + 4] = row.sample ? 1 : 0;
    packed.set(row.tokens, token);
    field += ROW_FIELDS;
    token += row.tokens.length;
  }
  return packed;
}

/** Room for any result of a lane with these limits. */
export interface ResultArrays {
  readonly integers: Int32Array;
  readonly floats: Float32Array;
}

export function resultArrays(maxRows: number, maxBatchTokens: number): ResultArrays {
  return {
    integers: new Int32Array(maxRows * OUTCOME_FIELDS + maxBatchTokens * (1 + MOST_TOP)),
    floats: new Float32Array(TIMES + maxBatchTokens * (1 + MOST_TOP)),
  };
}

const NO_INTEGERS = new Int32Array(0);
const NO_FLOATS = new Float32Array(0);

/** Copies the result of a step of `rows` rows out of `arrays`. */
export function unpackResult(rows: number, arrays: ResultArrays): StepResult {
  const { integers, floats } = arrays;
  const results: RowResult[] = [];
  let integer = rows * OUTCOME_FIELDS;
  let real = TIMES;
  for (let r = 0; r < rows; r++) {
    const field = r * OUTCOME_FIELDS;
    const drawn = integers[field]!;
    const logprobs = integers[field + 3]!;
    const top = drawn * Math.max(logprobs, 0);
    const tokens = drawn > 0 ? integers.slice(integer, integer + drawn) : NO_INTEGERS;
    integer += drawn;
    const reported = logprobs >= 0 ? drawn : 0;
    results.push({
      tokens,
      accepted: integers[field + 1]!,
      stopped: integers[field + 2] === 1,
      logprobs: reported > 0 ? floats.slice(real, real + reported) : NO_FLOATS,
      topIds: top > 0 ? integers.slice(integer, integer + top) : NO_INTEGERS,
      topLogprobs: top > 0 ? floats.slice(real + reported, real + reported + top) : NO_FLOATS,
    });
    integer += top;
    real += reported + top;
  }
  return { rows: results, computeMs: floats[0]!, waitMs: floats[1]!, sharedMs: floats[2]! };
}
