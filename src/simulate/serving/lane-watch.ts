import type { LaneEngine, SequenceHandle, StepResult, StepRow } from "../../engine/engine.js";
import type { Job } from "../../runtime/actor.js";
import type { LaneUse } from "./serving.js";

type Role = "prefill" | "decode";

/** Sees the steps of all lanes: what they did, and whether lanes of the other kind compute at the moment. */
export class LaneWatch {
  /** Lanes of each kind. */
  lanes = 0;
  readonly #uses = { prefill: emptyUse(), decode: emptyUse() };
  /** When the steps in hand end, by kind. */
  readonly #busyUntil = { prefill: 0, decode: 0 };

  /** `sharedFactor`: how many times longer a step takes beside lanes of the other kind. */
  constructor(
    readonly sharedFactor: number,
    readonly now: () => number,
  ) {}

  /** On the time of a step that the lane starts now. */
  factor(name: string): number {
    const other = roleOf(name) === "prefill" ? "decode" : "prefill";
    return this.#busyUntil[other] > this.now() ? this.sharedFactor : 1;
  }

  /** The lane's face of the engine, seen by this watch. */
  lane(engine: LaneEngine, name: string): LaneEngine {
    return new WatchedLane(engine, (rows, ms) => this.#stepped(roleOf(name), rows, ms));
  }

  use(role: Role): LaneUse {
    return { lanes: this.lanes, ...this.#uses[role] };
  }

  #stepped(role: Role, rows: readonly StepRow[], ms: number): void {
    const use = this.#uses[role];
    use.steps++;
    use.busyMs += ms;
    use.rows += rows.length;
    for (const row of rows) use.tokens += row.tokens.length;
    this.#busyUntil[role] = Math.max(this.#busyUntil[role], this.now() + ms);
  }
}

function emptyUse() {
  return { steps: 0, busyMs: 0, tokens: 0, rows: 0 };
}

function roleOf(name: string): Role {
  return name.startsWith("prefill") ? "prefill" : "decode";
}

class WatchedLane implements LaneEngine {
  readonly limits: LaneEngine["limits"];

  constructor(
    readonly engine: LaneEngine,
    readonly stepped: (rows: readonly StepRow[], ms: number) => void,
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
    const job = this.engine.submit(rows);
    this.stepped(rows, job.virtualMs ?? 0);
    return job;
  }

  kv() {
    return this.engine.kv();
  }

  close(): void {
    this.engine.close();
  }
}
