import type { StepRow } from "../engine/engine.js";
import type { SimulatedPool } from "../engine/simulated-pool.js";
import { ClassCheck } from "./class-check.js";
import type { Injector } from "./injector.js";
import type { Topology } from "./plan.js";
import { checkPool } from "./pool-check.js";
import type { Clock, SimulatedReader } from "./reader.js";
import { type Invariant, Violation } from "./violation.js";

/** Messages on their way, in milliseconds: a cancel passes five actors, each of which may be about to run. */
const SLACK_MS = 25;

/** What is checked after every event, over all requests and the pool. */
export class Checks {
  /** Checks made, for the summary. */
  made = 0;
  /** The longest step of either role so far: what "within one step" is measured by. */
  readonly #longestMs = { prefill: 0, decode: 0 };
  readonly #classes: ClassCheck;
  #poolChanges = -1;
  /** Requests that ended or were cancelled while sequences of theirs were alive. */
  #alive = new Set<number>();

  constructor(
    readonly topology: Topology,
    readonly pool: SimulatedPool,
    readonly readers: readonly SimulatedReader[],
    /** Those submitted that have not ended. */
    readonly open: ReadonlySet<SimulatedReader>,
    readonly injector: Injector,
    readonly clock: Clock,
    readonly violated: (violation: Violation) => void,
  ) {
    // What the configuration says unless the plan does.
    this.#classes = new ClassCheck(topology.scheduler?.offlinePatienceMs ?? 60_000);
  }

  /** A lane has started a step. */
  stepped(lane: string, ms: number, rows: readonly StepRow[]): void {
    const requests = rows.flatMap(({ sequence }) => {
      const seed = this.pool.sequences[sequence.index]?.sampling.seed;
      const reader = seed === undefined ? undefined : this.readers[seed - 1];
      return reader ? [reader] : [];
    });
    const quiet = (since: number) => this.#quietMs(since);
    const wrong = this.#classes.stepped(lane, requests, this.clock.now(), quiet, this.#oneStepMs);
    if (wrong) this.violated(wrong);
    const role = lane.startsWith("prefill") ? "prefill" : "decode";
    this.#longestMs[role] = Math.max(this.#longestMs[role], ms);
  }

  /** Call after every event. */
  afterEvent(): void {
    this.made++;
    if (this.pool.changes !== this.#poolChanges) this.#checkPool();
    for (const reader of this.open) this.#checkPromptness(reader);
    this.#classes.afterEvent(this.open, this.clock.now());
    for (const number of this.#alive) this.#checkRelease(this.readers[number] as SimulatedReader);
  }

  /** How long ago `since` was, less the time that faults excuse. */
  #quietMs(since: number): number {
    return this.clock.now() - Math.max(since, this.injector.disturbedUntil);
  }

  /** A message may wait for the step of a prefill lane and then for that of a decode lane. */
  get #oneStepMs(): number {
    return this.#longestMs.prefill + this.#longestMs.decode + SLACK_MS;
  }

  #checkPool(): void {
    this.#poolChanges = this.pool.changes;
    const wrong = checkPool(this.pool);
    if (wrong) this.#violate("pool", wrong);
    this.#alive.clear();
    for (const sequence of this.pool.sequences) {
      if (sequence.live && !sequence.releaseAfterStep) this.#alive.add(sequence.sampling.seed - 1);
    }
  }

  #checkPromptness(reader: SimulatedReader): void {
    const { deadlineMs } = reader.plan;
    const late = this.#quietMs(reader.submittedAt + deadlineMs);
    if (deadlineMs > 0 && late > this.#oneStepMs) {
      this.#violate("deadline", `request ${reader.number} lives on ${late.toFixed(1)} ms after its deadline`);
    }
    if (this.#quietMs(reader.takenBackAt) > this.#oneStepMs) {
      this.#violate("forgotten", `request ${reader.number} was taken back and has not ended`);
    }
  }

  #checkRelease(reader: SimulatedReader): void {
    const { number, takenBackAt, endedAt, outcome } = reader;
    const takenBack = !Number.isNaN(takenBackAt);
    const since = takenBack ? takenBackAt : endedAt;
    // Not so for one that lives: its time is not a number.
    if (!(this.#quietMs(since) > this.#oneStepMs)) return;
    const why = takenBack ? "was taken back" : `ended (${outcome})`;
    this.#violate("release", `request ${number} ${why}, but still holds KV`);
  }

  #violate(invariant: Invariant, what: string): void {
    this.violated(new Violation(invariant, what));
  }
}
