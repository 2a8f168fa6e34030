import type { LaneEngine, SequenceHandle, StepResult, StepRow } from "../../engine/engine.js";
import type { Job } from "../../runtime/actor.js";
import type { LaneUse } from "./serving.js";

type Role = "prefill" | "decode";

/** How many times longer a step takes beside lanes of the other kind, by its own kind. */
export type SharedFactors = Readonly<Record<Role, number>>;

/** Sees the steps of all lanes: what they did, and whether lanes of the other kind compute at the moment. */
export class LaneWatch {
  /** Lanes of each kind. */
  lanes = 0;
  readonly #uses = { prefill: emptyUse(), decode: emptyUse() };
  /** When the steps of prefill in hand end. */
  #prefillUntil = 0;
  /** Sequences of each pair's decode lane, or handed over to it. */
  readonly #decoding = new Map<string, number>();
  #decodingAll = 0;

  constructor(
    readonly shared: SharedFactors,
    readonly now: () => number,
  ) {}

  /** On the time of a step that the lane starts now. */
  factor(name: string): number {
    const role = roleOf(name);
    // A step of prefill is as long as many decode steps: what is handed over as it starts will run beside it too.
    const beside = role === "prefill" ? this.#decodingAll > 0 : this.#prefillUntil > this.now();
    return beside ? this.shared[role] : 1;
  }

  /** The lane's face of the engine, seen by this watch: of each of its lives. */
  lane(engine: LaneEngine, name: string): LaneEngine {
    const role = roleOf(name);
    const pair = name.slice(name.indexOf(".") + 1);
    // What an earlier life held is given back without a word.
    if (role === "decode") this.#hold(pair, -(this.#decoding.get(pair) ?? 0));
    return new WatchedLane(engine, {
      stepped: (rows, ms) => this.#stepped(role, rows, ms),
      // A decode lane's own are prompts that came straight to it.
      created: () => {
        if (role === "decode") this.#hold(pair, 1);
      },
      handedOver: () => {
        if (role === "prefill") this.#hold(pair, 1);
      },
      released: () => {
        if (role === "decode") this.#hold(pair, -1);
      },
    });
  }

  #hold(pair: string, more: number): void {
    this.#decoding.set(pair, (this.#decoding.get(pair) ?? 0) + more);
    this.#decodingAll += more;
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
    if (role === "prefill") this.#prefillUntil = Math.max(this.#prefillUntil, this.now() + ms);
  }
}

function emptyUse() {
  return { steps: 0, busyMs: 0, tokens: 0, rows: 0 };
}

function roleOf(name: string): Role {
  return name.startsWith("prefill") ? "prefill" : "decode";
}

/** Who is told of a lane. */
interface Watcher {
  readonly stepped: (rows: readonly StepRow[], ms: number) => void;
  readonly created: () => void;
  readonly handedOver: () => void;
  readonly released: () => void;
}

class WatchedLane implements LaneEngine {
  readonly limits: LaneEngine["limits"];

  constructor(
    readonly engine: LaneEngine,
    readonly watcher: Watcher,
  ) {
    this.limits = engine.limits;
  }

  createSequence(...args: Parameters<LaneEngine["createSequence"]>) {
    const created = this.engine.createSequence(...args);
    this.watcher.created();
    return created;
  }

  release(sequence: SequenceHandle): void {
    this.engine.release(sequence);
    this.watcher.released();
  }

  handOver(sequence: SequenceHandle, toLane: number): void {
    this.engine.handOver(sequence, toLane);
    this.watcher.handedOver();
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
    this.watcher.stepped(rows, job.virtualMs ?? 0);
    return job;
  }

  kv() {
    return this.engine.kv();
  }

  close(): void {
    this.engine.close();
  }
}
