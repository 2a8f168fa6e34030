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
}

/** Predicted milliseconds of a step of so many rows, new tokens, and tokens attended to over all new tokens. */
export function stepMs(cost: StepCostModel, rows: number, tokens: number, attended: number): number {
  return cost.baseMs + cost.rowMs * rows + cost.tokenMs * tokens + cost.contextMs * attended;
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
};
