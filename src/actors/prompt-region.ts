import type { Sampling } from "../engine/engine.js";
import type { SlabRef } from "../runtime/schema.js";
import type { Journey } from "./messages.js";

/**
 * How a request lies in the prompt slab, in 32-bit words: stop ids | bias ids | bias values (f32) | prompt ids |
 * output ids. The gateway writes the output as it delivers it, so that a further attempt finds prompt and
 * output side by side.
 */

/** Bytes of the region of a request with so much of each. */
export function regionBytes(
  stopIds: number,
  biases: number,
  promptTokens: number,
  maxTokens: number,
): number {
  return 4 * (stopIds + 2 * biases + promptTokens + maxTokens);
}

/** The gateway's own view of a region: writes once, then appends output. */
export class PromptRegion {
  readonly #tokens: Uint32Array;
  readonly #promptTokens: number;

  /** `bytes` is the region that `ref` names. */
  constructor(
    readonly ref: SlabRef,
    bytes: Uint8Array,
    prompt: Uint32Array,
    sampling: Sampling,
  ) {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    const floats = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
    let at = 0;
    for (const id of sampling.stopIds) words[at++] = id;
    for (const id of sampling.logitBias.keys()) words[at++] = id;
    for (const bias of sampling.logitBias.values()) floats[at++] = bias;
    this.#tokens = words.subarray(at);
    this.#tokens.set(prompt);
    this.#promptTokens = prompt.length;
  }

  /** Stores the output token of that index. */
  setOutput(index: number, id: number): void {
    this.#tokens[this.#promptTokens + index] = id;
  }
}

/** A copy of the token ids to prefill; the region may be freed afterwards. */
export function copyPrompt(journey: Journey, bytes: Uint8Array): Uint32Array {
  const from = journey.stopIds + 2 * journey.biases;
  return new Uint32Array(bytes.buffer, bytes.byteOffset + 4 * from, journey.promptTokens).slice();
}

/** The request's sampling, its lists copied from the region. */
export function readSampling(journey: Journey, bytes: Uint8Array): Sampling {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, journey.stopIds + 2 * journey.biases);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, journey.stopIds + 2 * journey.biases);
  const logitBias = new Map<number, number>();
  for (let i = 0; i < journey.biases; i++) {
    logitBias.set(
      words[journey.stopIds + i] as number,
      values[journey.stopIds + journey.biases + i] as number,
    );
  }
  return {
    temperature: journey.temperature,
    topK: journey.topK,
    topP: journey.topP,
    minP: journey.minP,
    repetitionPenalty: journey.repetitionPenalty,
    presencePenalty: journey.presencePenalty,
    frequencyPenalty: journey.frequencyPenalty,
    seed: journey.seed,
    logitBias,
    stopIds: Array.from(words.subarray(0, journey.stopIds)),
    minTokens: journey.minTokens,
    logprobs: journey.logprobs,
  };
}
