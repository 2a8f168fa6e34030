import type { CacheSalt, LaneEngine, Sampling, SequenceHandle, StepRow } from "#streamserve/engine/engine.js";
import type { NativeLane, OperationProfile } from "#streamserve/engine/native-engine.js";

export interface ProfiledStep {
  readonly rows: number;
  readonly tokens: number;
  /** From the call that submits it to the result in hand. */
  readonly wallMs: number;
  readonly computeMs: number;
  /** Until the first core began. */
  readonly waitMs: number;
  readonly operations: readonly OperationProfile[];
}

/** A lane opened with `profile` that keeps the profile of every step; otherwise the same. */
export class ProfiledLane implements LaneEngine {
  readonly limits;
  readonly #lane: NativeLane;
  readonly #steps: ProfiledStep[] = [];

  constructor(lane: NativeLane) {
    this.#lane = lane;
    this.limits = lane.limits;
  }

  /** The steps since the last call. */
  takeSteps(): ProfiledStep[] {
    return this.#steps.splice(0);
  }

  submit(rows: readonly StepRow[]): ReturnType<LaneEngine["submit"]> {
    const beganMs = performance.now();
    const job = this.#lane.submit(rows);
    return {
      finished: () => job.finished(),
      collect: () => {
        const result = job.collect();
        const wallMs = performance.now() - beganMs;
        this.#steps.push({
          rows: rows.length,
          tokens: rows.reduce((sum, row) => sum + row.tokens.length, 0),
          wallMs,
          computeMs: result.computeMs,
          waitMs: result.waitMs,
          operations: this.#lane.profile(),
        });
        return result;
      },
    };
  }

  createSequence(prompt: Uint32Array, outputFrom: number, sampling: Sampling, salt?: CacheSalt) {
    return this.#lane.createSequence(prompt, outputFrom, sampling, salt);
  }

  release(sequence: SequenceHandle): void {
    this.#lane.release(sequence);
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    this.#lane.handOver(sequence, toLane);
  }

  adopt(sequence: SequenceHandle): void {
    this.#lane.adopt(sequence);
  }

  releaseStranded(): void {
    this.#lane.releaseStranded();
  }

  length(sequence: SequenceHandle): number {
    return this.#lane.length(sequence);
  }

  kv() {
    return this.#lane.kv();
  }

  close(): void {
    this.#lane.close();
  }
}
