import type {
  CacheSalt,
  CreatedSequence,
  KvCounts,
  LaneEngine,
  LaneLimits,
  Sampling,
  SequenceHandle,
  StepResult,
  StepRow,
} from "../engine/engine.js";
import { StreamServeError } from "../errors.js";
import type { Job } from "../runtime/actor.js";
import { Violation } from "./violation.js";

/** What the probe of a lane tells, and what it asks for. */
export interface ProbeHost {
  violated(violation: Violation): void;
  /** A step was started. */
  stepped(lane: string, virtualMs: number, rows: readonly StepRow[]): void;
}

/** Stands between a lane's actor and its engine: checks how the engine is used. */
export class LaneProbe implements LaneEngine {
  readonly limits: LaneLimits;
  /** Prompt length of each sequence, by its handle, until it is handed over or released. */
  readonly #prompts: Map<string, number>;

  constructor(
    readonly name: string,
    readonly engine: LaneEngine,
    readonly host: ProbeHost,
  ) {
    this.limits = engine.limits;
    this.#prompts = new Map();
  }

  createSequence(
    prompt: Uint32Array,
    outputFrom: number,
    sampling: Sampling,
    salt?: CacheSalt,
  ): CreatedSequence {
    const created = this.engine.createSequence(prompt, outputFrom, sampling, salt);
    this.#prompts.set(keyOf(created.handle), prompt.length);
    return created;
  }

  release(sequence: SequenceHandle): void {
    this.#prompts.delete(keyOf(sequence));
    this.engine.release(sequence);
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    const prompt = this.#prompts.get(keyOf(sequence));
    const length = this.#owned(() => this.engine.length(sequence));
    if (prompt !== undefined && length < prompt) {
      this.#violate("owner", `hands over a sequence with ${length} of ${prompt} prompt tokens computed`);
    }
    this.#prompts.delete(keyOf(sequence));
    this.#owned(() => this.engine.handOver(sequence, toLane));
  }

  adopt(sequence: SequenceHandle): void {
    this.engine.adopt(sequence);
  }

  releaseStranded(): void {
    this.engine.releaseStranded();
  }

  length(sequence: SequenceHandle): number {
    return this.#owned(() => this.engine.length(sequence));
  }

  submit(rows: readonly StepRow[]): Job<StepResult> {
    const job = this.#owned(() => this.engine.submit(rows));
    this.host.stepped(this.name, job.virtualMs ?? 0, rows);
    return job;
  }

  kv(): KvCounts {
    return this.engine.kv();
  }

  close(): void {
    this.engine.close();
  }

  #owned<R>(action: () => R): R {
    try {
      return action();
    } catch (error) {
      const code = error instanceof StreamServeError ? error.code : "internal";
      if (code === "stale_handle")
        this.#violate("owner", `uses a sequence that is not its own: ${String(error)}`);
      else if (code !== "kv_exhausted")
        this.#violate("limits", `asks the engine for the impossible: ${String(error)}`);
      throw error;
    }
  }

  #violate(invariant: "owner" | "limits", what: string): void {
    this.host.violated(new Violation(invariant, `${this.name} ${what}`));
  }
}

function keyOf({ index, epoch }: SequenceHandle): string {
  return `${index}:${epoch}`;
}
