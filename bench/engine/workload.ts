import { GREEDY, type LaneEngine, type SequenceHandle } from "#streamserve/engine/engine.js";
import { seededRandom } from "../load/arrivals.js";

/**
 * The engine's workloads, run straight on one lane: no actors, no doors. Prompts are random ids, new ones each
 * time, so that no prefix cache can help.
 */
export class LaneWorkload {
  readonly #lane: LaneEngine;
  readonly #random = seededRandom(1);

  constructor(lane: LaneEngine) {
    this.#lane = lane;
  }

  /** Prefills a prompt of `tokens`, in the largest chunks the lane takes. Returns tokens a second. */
  prefill(tokens: number): number {
    const prompt = this.#ids(tokens);
    const sequence = this.#lane.createSequence(prompt, tokens, GREEDY).handle;
    const beganMs = performance.now();
    this.#append(sequence, prompt);
    const elapsedMs = performance.now() - beganMs;
    this.#lane.release(sequence);
    return (tokens * 1000) / elapsedMs;
  }

  /** Decodes `sequences` side by side, `outputTokens` each, after prompts of `promptTokens`. Tokens a second, all. */
  decode(sequences: number, promptTokens: number, outputTokens: number): number {
    const rows = Array.from({ length: sequences }, () => this.#prompted(promptTokens));
    const beganMs = performance.now();
    for (let step = 0; step < outputTokens; step++) {
      const result = this.#lane
        .submit(
          rows.map(({ sequence, pending }) => ({ sequence, tokens: [pending], drafts: 0, sample: true })),
        )
        .collect();
      for (const [index, row] of result.rows.entries()) rows[index]!.pending = row.tokens[0]!;
    }
    const elapsedMs = performance.now() - beganMs;
    for (const { sequence } of rows) this.#lane.release(sequence);
    return (sequences * outputTokens * 1000) / elapsedMs;
  }

  /**
   * Milliseconds of each of `steps` steps that verify `drafts` random drafts of one sequence; 0 drafts: a plain
   * decode step. Few random drafts hold, which is as dear as if all did.
   */
  verify(drafts: number, promptTokens: number, steps: number): number[] {
    const row = this.#prompted(promptTokens);
    const times: number[] = [];
    for (let step = 0; step < steps; step++) {
      const tokens = [row.pending, ...this.#ids(drafts)];
      const beganMs = performance.now();
      const result = this.#lane.submit([{ sequence: row.sequence, tokens, drafts, sample: true }]).collect();
      times.push(performance.now() - beganMs);
      const drawn = result.rows[0]!.tokens;
      row.pending = drawn[drawn.length - 1]!;
    }
    this.#lane.release(row.sequence);
    return times;
  }

  #prompted(tokens: number): { readonly sequence: SequenceHandle; pending: number } {
    const prompt = this.#ids(tokens);
    const sequence = this.#lane.createSequence(prompt, tokens, GREEDY).handle;
    return { sequence, pending: this.#append(sequence, prompt) };
  }

  #append(sequence: SequenceHandle, prompt: Uint32Array): number {
    const most = this.#lane.limits.maxBatchTokens;
    for (let from = 0; ; from += most) {
      const tokens = prompt.subarray(from, from + most);
      const last = from + most >= prompt.length;
      const result = this.#lane.submit([{ sequence, tokens, drafts: 0, sample: last }]).collect();
      if (last) return result.rows[0]!.tokens[0]!;
    }
  }

  #ids(count: number): Uint32Array {
    return Uint32Array.from({ length: count }, () =>
      Math.floor(this.#random() * this.#lane.limits.vocabulary),
    );
  }
}
