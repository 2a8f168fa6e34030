import type { LaneEngine, SequenceHandle, StepResult, StepRow } from "../../engine/engine.js";
import type { CoreRole } from "../../engine/simulated-cores.js";
import type { Job } from "../../runtime/actor.js";
import type { LaneUse } from "./serving.js";

/** Sees the steps of all lanes and adds up what they did. */
export class LaneWatch {
  readonly #uses = { prefill: emptyUse(), decode: emptyUse() };

  /** `lanes`: of each kind. */
  constructor(readonly lanes: number) {}

  /** The lane's face of the engine, seen by this watch. */
  lane(engine: LaneEngine, name: string): LaneEngine {
    return new WatchedLane(engine, this.#uses[roleOf(name)]);
  }

  use(role: CoreRole): LaneUse {
    return { lanes: this.lanes, ...this.#uses[role] };
  }
}

export function roleOf(name: string): CoreRole {
  return name.startsWith("prefill") ? "prefill" : "decode";
}

interface Use {
  steps: number;
  busyMs: number;
  tokens: number;
  rows: number;
}

function emptyUse(): Use {
  return { steps: 0, busyMs: 0, tokens: 0, rows: 0 };
}

class WatchedLane implements LaneEngine {
  readonly limits: LaneEngine["limits"];

  constructor(
    readonly engine: LaneEngine,
    readonly use: Use,
  ) {
    this.limits = engine.limits;
  }

  createSequence(...args: Parameters<LaneEngine["createSequence"]>) {
    return this.engine.createSequence(...args);
  }

  release(sequence: SequenceHandle): void {
    this.engine.release(sequence);
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    this.engine.handOver(sequence, toLane);
  }

  adopt(sequence: SequenceHandle): void {
    this.engine.adopt(sequence);
  }

  releaseStranded(): void {
    this.engine.releaseStranded();
  }

  length(sequence: SequenceHandle): number {
    return this.engine.length(sequence);
  }

  submit(rows: readonly StepRow[]): Job<StepResult> {
    const { use } = this;
    const job = this.engine.submit(rows);
    use.steps++;
    use.rows += rows.length;
    for (const row of rows) use.tokens += row.tokens.length;
    const collect = () => {
      const result = job.collect();
      use.busyMs += result.computeMs;
      return result;
    };
    return { ...job, collect };
  }

  kv() {
    return this.engine.kv();
  }

  close(): void {
    this.engine.close();
  }
}
