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
  /** Before this moment nothing that is open or alive can be late: the next time to look at them all. */
  #lookAtMs = 0;
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
    const now = this.clock.now();
    if (now >= this.#lookAtMs) this.#checkTimes(now);
    this.#classes.afterEvent(this.open, now);
  }

  /** Whatever begins to count from now on may take one step; what counts already shortens that. */
  #checkTimes(now: number): void {
    this.#lookAtMs = now + this.#oneStepMs;
    for (const reader of this.open) this.#checkPromptness(reader);
    for (const number of this.#alive) this.#checkRelease(this.readers[number] as SimulatedReader);
  }

  /** True if one step has passed since `since`, less what faults excuse; never so for a time that is not a number. */
  #late(since: number): boolean {
    const lateAtMs = Math.max(since, this.injector.disturbedUntil) + this.#oneStepMs;
    if (this.clock.now() > lateAtMs) return true;
    // It can only become later: by more faults, and longer steps.
    if (lateAtMs < this.#lookAtMs) this.#lookAtMs = lateAtMs;
    return false;
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
    this.#lookAtMs = 0;
    const wrong = checkPool(this.pool);
    if (wrong) this.#violate("pool", wrong);
    this.#alive.clear();
    for (const sequence of this.pool.sequences) {
      if (sequence.live && !sequence.releaseAfterStep) this.#alive.add(sequence.sampling.seed - 1);
    }
  }

  #checkPromptness(reader: SimulatedReader): void {
    const { deadlineMs } = reader.plan;
    const deadline = reader.submittedAt + deadlineMs;
    if (deadlineMs > 0 && this.#late(deadline)) {
      const late = this.#quietMs(deadline).toFixed(1);
      this.#violate("deadline", `request ${reader.number} lives on ${late} ms after its deadline`);
    }
    if (this.#late(reader.takenBackAt)) {
      this.#violate("forgotten", `request ${reader.number} was taken back and has not ended`);
    }
  }

  #checkRelease(reader: SimulatedReader): void {
    const { number, takenBackAt, endedAt, outcome } = reader;
    const takenBack = !Number.isNaN(takenBackAt);
    const since = takenBack ? takenBackAt : endedAt;
    if (!this.#late(since)) return;
    const why = takenBack ? "was taken back" : `ended (${outcome})`;
    this.#violate("release", `request ${number} ${why}, but still holds KV`);
  }

  #violate(invariant: Invariant, what: string): void {
    this.violated(new Violation(invariant, what));
  }
}
