import type { StepRow } from "../engine/engine.js";
import type { StepShape } from "../policy/step-cost.js";
import type { DecodeRow } from "./decode-row.js";

/** What the engine is given, and its shape. */
export interface DecodeStep {
  readonly rows: readonly DecodeRow[];
  readonly batch: readonly StepRow[];
  readonly shape: StepShape;
}

/** A step of these rows without drafts; `shared`: the share of it that is to run beside the other kind of lane. */
export function plainShape(rows: readonly DecodeRow[], shared: number): StepShape {
  let contextTokens = 0;
  let tokens = 0;
  for (const row of rows) {
    contextTokens += row.length;
    tokens += Math.max(1, row.chunk);
  }
  return { tokens, contextTokens, rows: rows.length, shared };
}

/** The step in which each row verifies `depths` of the drafts it has made; absent: none. */
export function composeStep(
  rows: readonly DecodeRow[],
  plain: StepShape,
  depths: Uint8Array | undefined,
): DecodeStep {
  let tokens = 0;
  const batch = rows.map((row, i) => {
    const ids = row.prepare(depths?.[i] ?? 0);
    tokens += ids.length;
    return { sequence: row.handle, tokens: ids, drafts: row.drafts, sample: row.samples };
  });
  return { rows, batch, shape: { ...plain, tokens } };
}
