import type { LaneEngine } from "#streamserve/engine/engine.js";
import type { GenerationService } from "#streamserve/gateway/generation.js";
import { ENDLESS } from "../scheduling/stream.js";

/** The same decode on two paths. Both answers are the same tokens: see `sameTokens`. */

export interface Decoded {
  readonly tokens: readonly number[];
  /** Milliseconds a token from the first token to the last. */
  readonly msPerToken: number;
}

/** A loop around the engine and nothing else: what the machine would do without StreamServe's actors. */
export function decodeBare(lane: LaneEngine, prompt: Uint32Array, outputTokens: number): Decoded {
  const { handle: sequence, cachedTokens } = lane.createSequence(prompt, prompt.length, ENDLESS);
  const tokens: number[] = [];
  const step = (input: ArrayLike<number>) => {
    const result = lane.submit([{ sequence, tokens: input, drafts: 0, sample: true }]).collect();
    tokens.push(result.rows[0]!.tokens[0]!);
  };
  step(prompt.subarray(cachedTokens));
  const firstMs = performance.now();
  while (tokens.length < outputTokens) step([tokens[tokens.length - 1]!]);
  const msPerToken = (performance.now() - firstMs) / (outputTokens - 1);
  lane.release(sequence);
  return { tokens, msPerToken };
}

/** The way every request goes: scheduler, router, prefill lane, hand-over, decode lane, gateway. No HTTP. */
export function decodeThroughActors(
  service: GenerationService,
  prompt: Uint32Array,
  outputTokens: number,
): Promise<Decoded> {
  return new Promise((resolve, reject) => {
    const tokens: number[] = [];
    let firstMs = 0;
    let lastMs = 0;
    service.generate(
      {
        prompt,
        maxTokens: outputTokens,
        sampling: ENDLESS,
        class: "interactive",
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      {
        tokens: ({ ids }) => {
          lastMs = performance.now();
          if (tokens.length === 0) firstMs = lastMs;
          tokens.push(...ids);
        },
        done: () => resolve({ tokens, msPerToken: (lastMs - firstMs) / (outputTokens - 1) }),
        failed: reject,
      },
    );
  });
}
