/**
 * How long a step takes on the virtual clock. The constants are data, with where they come from, so that the
 * same simulation can be asked about other machines.
 */
export interface StepCostModel {
  readonly source: string;
  /** Milliseconds of any step: weights read once, kernels started. */
  readonly baseMs: number;
  /** Milliseconds a row. */
  readonly rowMs: number;
  /** Milliseconds a new token: its matrix products. */
  readonly tokenMs: number;
  /** Milliseconds a token of context that a new token attends to. */
  readonly contextMs: number;
  /** Milliseconds a token of context that a row reads from memory, once a step whatever its new tokens. */
  readonly readMs: number;
  /**
   * Measured milliseconds of steps of one row without context, ascending in new tokens: they stand for `baseMs` and
   * `tokenMs` then. Between them straight lines, beyond them the nearest one's.
   */
  readonly points?: readonly { readonly tokens: number; readonly ms: number }[] | undefined;
}

/**
 * Predicted milliseconds of a step of so many rows, new tokens, tokens attended to over all new tokens, and tokens of
 * context read over all rows.
 */
export function stepMs(
  cost: StepCostModel,
  rows: number,
  tokens: number,
  attended: number,
  read = 0,
): number {
  const { rowMs, contextMs, readMs } = cost;
  return tokensMs(cost, tokens) + rowMs * rows + contextMs * attended + readMs * read;
}

function tokensMs({ baseMs, tokenMs, points }: StepCostModel, tokens: number): number {
  if (!points || points.length < 2) return baseMs + tokenMs * tokens;
  let at = 1;
  while (at < points.length - 1 && points[at]!.tokens < tokens) at++;
  const from = points[at - 1]!;
  const to = points[at]!;
  return from.ms + ((to.ms - from.ms) * (tokens - from.tokens)) / (to.tokens - from.tokens);
}

/**
 * Provisional: not measured on this engine. Solved from three published-style figures of another engine
 * (llama.cpp v0.5.0, SmolLM2-135M Q4_1, 2 threads of a Zen 4 machine: prefill 296 tokens/s, decode 132
 * tokens/s alone, 189 tokens/s over 8 sequences); the share of attention is an estimate.
 */
export const PROVISIONAL_CPU: StepCostModel = {
  source: "provisional: from llama.cpp figures on a 2-core Zen 4, not measured on this engine",
  baseMs: 2.6,
  rowMs: 1.6,
  tokenMs: 3.3,
  contextMs: 0.0005,
  readMs: 0,
};
