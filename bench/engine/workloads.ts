/** A workload that engines are compared by. Decoding starts from `promptTokens` in each sequence's KV. */
export type Workload =
  | { readonly kind: "prefill"; readonly tokens: number }
  | {
      readonly kind: "decode";
      readonly sequences: number;
      readonly promptTokens: number;
      readonly outputTokens: number;
    };

const PROMPT_TOKENS = 128;
/** Decoding goes from 128 to 192 tokens of context: long enough to time, short enough to repeat. */
const OUTPUT_TOKENS = 64;

/** A context that is served often: the model of the benchmarks was made for just so much. */
const LONG_CONTEXT_TOKENS = 8192;

const decode = (sequences: number): Workload => ({
  kind: "decode",
  sequences,
  promptTokens: PROMPT_TOKENS,
  outputTokens: OUTPUT_TOKENS,
});

/** One sequence with little context, and with much: what the second costs more should be what it reads more. */
export const SHORT_DECODE = decode(1);
export const LONG_DECODE: Workload = {
  kind: "decode",
  sequences: 1,
  promptTokens: LONG_CONTEXT_TOKENS - OUTPUT_TOKENS,
  outputTokens: OUTPUT_TOKENS,
};

export const WORKLOADS: readonly Workload[] = [
  { kind: "prefill", tokens: 128 },
  { kind: "prefill", tokens: 512 },
  SHORT_DECODE,
  LONG_DECODE,
  decode(8),
  decode(32),
];

/** Limits of a lane that takes them all: a prompt in one step, every sequence with blocks to spare. */
export const MOST_PROMPT_TOKENS = 512;
export const MOST_SEQUENCES = 32;
/** Prompts of all sequences of the widest decode at once: the most that a peer need prefill in a step. */
export const MOST_STEP_TOKENS = MOST_SEQUENCES * PROMPT_TOKENS;
export const MOST_KV_TOKENS = Math.max(
  MOST_SEQUENCES * (PROMPT_TOKENS + 2 * OUTPUT_TOKENS),
  LONG_CONTEXT_TOKENS,
);

/** Tokens that one sequence comes to hold. */
export function contextOf(workload: Workload): number {
  return workload.kind === "prefill" ? workload.tokens : workload.promptTokens + workload.outputTokens;
}

export function describeWorkload(workload: Workload): string {
  if (workload.kind === "prefill") return `prefill ${workload.tokens}`;
  if (workload === LONG_DECODE) return `decode at ${LONG_CONTEXT_TOKENS / 1024}k context`;
  return workload.sequences === 1 ? "decode, 1 sequence" : `decode, ${workload.sequences} sequences`;
}
