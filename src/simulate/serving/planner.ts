import { merged } from "../../config/sources.js";
import { StreamServeError } from "../../errors.js";
import { RECORDED_SETS } from "../../model/recording.js";
import type { Fault } from "../plan.js";
import type { Arrivals } from "./arrivals.js";
import { fewestThatKeep, highestThatKeeps } from "./capacity.js";
import { loadHardware } from "./load-hardware.js";
import { type PhaseResult, phaseResults, phasesOf } from "./phases.js";
import { faultsOf } from "./planned-faults.js";
import { type PlannedSet, type PlannerSettings, servingSettings } from "./planner-settings.js";
import { type ServingResult, servingResult } from "./results.js";
import type {
  Objectives,
  RequestOutcome,
  ServingRun,
  ServingSetup,
  Settings,
  Strike,
  Workload,
} from "./serving.js";
import { simulateServing } from "./simulate-serving.js";
import { closedWorkload, openWorkload, type SetShare, traceWorkload } from "./workload.js";

/** One simulated run of a plan. */
export interface PlannedPoint {
  readonly pairs: number;
  /** Requests a second, users, or undefined for a trace. */
  readonly rate: number | undefined;
  readonly users: number | undefined;
  readonly kept: boolean;
  readonly result: ServingResult;
  /** By set, where there are several. */
  readonly bySet: Readonly<Record<string, ServingResult>>;
  readonly requests: readonly RequestOutcome[];
  /** Present where the plan has faults. */
  readonly faults?: FaultsResult;
}

/** What faults did. */
export interface FaultsResult {
  /** Each fault of the plan, and what became of it, lane by lane; none where the run ended before. */
  readonly struck: readonly { readonly fault: string; readonly strikes: readonly Strike[] }[];
  /** Actors started again, requests sent again. */
  readonly restarts: number;
  readonly resumptions: number;
  readonly phases: readonly PhaseResult[];
  /** The same requests without faults: of a plan of one run alone. */
  readonly without?: {
    readonly result: ServingResult;
    readonly phases: readonly PhaseResult[];
    readonly requests: readonly RequestOutcome[];
  };
}

/** What a search found: the highest rate for so many pairs, or the fewest pairs for a rate. */
export interface Found {
  readonly pairs: number | undefined;
  readonly rate: number;
}

export interface PlanResult {
  /** Ascending in pairs, then in rate or users. */
  readonly points: readonly PlannedPoint[];
  readonly found: readonly Found[];
}

/** Requests of a run at least: percentiles of fewer say little. */
const LEAST_REQUESTS = 500;
/** Requests of each user of a closed loop, unless told otherwise. */
const REQUESTS_A_USER = 20;
/** A found rate is this near the edge, as a share. */
const TOLERANCE = 0.03;
const MOST_PAIRS = 4096;

/** Simulates all that a plan asks for; `progress` hears of each point. Throws `config_invalid` and `trace_invalid`. */
export function simulatePlan(
  plan: PlannerSettings,
  progress: (point: PlannedPoint) => void = () => {},
): PlanResult {
  return new Planner(plan, progress).run();
}

class Planner {
  readonly #points: PlannedPoint[] = [];
  readonly #hardware: ServingSetup["hardware"];
  readonly #objectives: Objectives;

  constructor(
    readonly plan: PlannerSettings,
    readonly progress: (point: PlannedPoint) => void,
  ) {
    this.#hardware = loadHardware(plan.hardware);
    this.#objectives = { ttftMs: plan.sloTtftMs, tpotMs: plan.sloTpotMs };
    // Before anything is simulated: all runs have as many pairs at least.
    for (const fault of plan.faults) faultsOf(fault, Math.min(...plan.pairs));
  }

  run(): PlanResult {
    const { find } = this.plan;
    const found = find === "rate" ? this.#findRates() : find === "pairs" ? this.#findPairs() : [];
    if (!find) this.#sweep();
    const points = this.#points.sort((a, b) => a.pairs - b.pairs || amountOf(a) - amountOf(b));
    return { points, found };
  }

  #sweep(): void {
    const { pairs, rate, users } = this.plan;
    for (const count of pairs) {
      for (const perSecond of rate ?? []) this.#rated(count, perSecond);
      for (const many of users ?? []) this.#simulate(count, undefined, many, this.#closed(many));
      if (!rate && !users) this.#simulate(count, undefined, undefined, this.#traced());
    }
  }

  #findRates(): Found[] {
    return this.plan.pairs.map((pairs) => {
      const start = this.plan.rate?.[0] ?? pairs;
      const keeps = (rate: number) => this.#rated(pairs, rate).kept;
      return { pairs, rate: highestThatKeeps(start, TOLERANCE, keeps) };
    });
  }

  #findPairs(): Found[] {
    const start = this.plan.pairs[0]!;
    return (this.plan.rate ?? []).map((rate) => {
      const keeps = (pairs: number) => this.#rated(pairs, rate).kept;
      return { pairs: fewestThatKeep(start, MOST_PAIRS, keeps), rate };
    });
  }

  #rated(pairs: number, rate: number): PlannedPoint {
    return this.#simulate(pairs, rate, undefined, this.#open(rate));
  }

  #open(perSecond: number): Workload {
    const { cv, bursts, seconds, seed } = this.plan;
    const count = this.plan.requests ?? Math.max(LEAST_REQUESTS, Math.ceil(perSecond * seconds));
    const [onSeconds = 0, offSeconds = 0] = bursts?.split("/").map(Number) ?? [];
    const arrivals: Arrivals = bursts
      ? { kind: "bursts", onSeconds, offSeconds }
      : cv === 0
        ? { kind: "constant" }
        : cv === 1
          ? { kind: "poisson" }
          : { kind: "gamma", cv };
    return openWorkload({ arrivals, perSecond, count, sets: this.#sets, seed });
  }

  #closed(users: number): Workload {
    const { thinkMs, seed } = this.plan;
    const count = this.plan.requests ?? Math.max(LEAST_REQUESTS, REQUESTS_A_USER * users);
    return closedWorkload({ users, thinkMs, count, sets: this.#sets, seed });
  }

  #traced(): Workload {
    const { trace = "", traceSpeed, traceBlockTokens, seed } = this.plan;
    const sets = this.#shares(this.plan.sets ?? []);
    const count = this.plan.requests ?? Number.POSITIVE_INFINITY;
    return traceWorkload({
      file: trace,
      speed: traceSpeed,
      count,
      blockTokens: traceBlockTokens,
      sets,
      seed,
    });
  }

  get #sets(): readonly SetShare[] {
    return this.#shares(this.plan.sets ?? RECORDED_SETS.map((recorded) => ({ recorded, weight: 1 })));
  }

  #shares(sets: readonly PlannedSet[]): SetShare[] {
    const { maxTokens } = this.plan;
    return sets.map((set) => ("recorded" in set ? { ...set, maxTokens } : set));
  }

  #simulate(
    pairs: number,
    rate: number | undefined,
    users: number | undefined,
    workload: Workload,
  ): PlannedPoint {
    const { seed, warmUpSeconds, sloShare, faults } = this.plan;
    // What the plan says by its own names counts more than what its `settings` say.
    const settings = merged(this.plan.settings, servingSettings(this.plan)) as Settings;
    const objectives = this.#objectives;
    const setup = { hardware: this.#hardware, pairs, settings, objectives, seed };
    const planned = faults.map((fault) => ({ fault: fault.text, does: faultsOf(fault, pairs) }));
    const run = simulateServing({ ...setup, faults: planned.flatMap(({ does }) => does) }, workload);
    const from = 1000 * warmUpSeconds;
    const result = servingResult(run, objectives, from);
    if (result.requests === 0) {
      const message = `"warmUpSeconds" can't be used: all requests came within its ${warmUpSeconds} s.`;
      throw new StreamServeError("config_invalid", message, { key: "warmUpSeconds" });
    }
    const names = [...new Set(run.requests.map(({ set }) => set))].sort();
    const bySet =
      names.length < 2
        ? []
        : names.map((set) => {
            const requests = run.requests.filter((one) => one.set === set);
            return [set, servingResult({ ...run, requests }, objectives, from)] as const;
          });
    const point = {
      pairs,
      rate,
      users,
      kept: result.attainment >= sloShare,
      result,
      bySet: Object.fromEntries(bySet),
      requests: run.requests,
      ...(planned.length > 0 ? { faults: this.#faultsOf(run, planned, setup, workload) } : {}),
    };
    this.#points.push(point);
    this.progress(point);
    return point;
  }

  #faultsOf(
    run: ServingRun,
    planned: readonly { readonly fault: string; readonly does: readonly Fault[] }[],
    setup: ServingSetup,
    workload: Workload,
  ): FaultsResult {
    const from = 1000 * this.plan.warmUpSeconds;
    const phases = phasesOf(run.strikes, from, endOf(run));
    const met = ({ requests }: ServingRun) =>
      phaseResults(
        phases,
        requests.filter(({ atMs }) => atMs >= from),
        this.#objectives,
      );
    const plain = this.#single ? simulateServing(setup, workload) : undefined;
    return {
      struck: planned.map(({ fault, does }) => {
        const own = new Set(does);
        return { fault, strikes: run.strikes.filter((strike) => own.has(strike.fault)) };
      }),
      restarts: run.restarts,
      resumptions: run.resumptions,
      phases: met(run),
      ...(plain && {
        without: {
          result: servingResult(plain, this.#objectives, from),
          phases: met(plain),
          requests: plain.requests,
        },
      }),
    };
  }

  /** A plan of one run. */
  get #single(): boolean {
    const { find, pairs, rate, users } = this.plan;
    return !find && pairs.length * (rate?.length ?? 1) * (users?.length ?? 1) === 1;
  }
}

/** Of requests alone: what comes before the first and after the last is no phase. */
function endOf({ requests }: ServingRun): number {
  return requests.reduce((last, { atMs, totalMs }) => Math.max(last, atMs + totalMs), 0);
}

function amountOf({ rate, users }: PlannedPoint): number {
  return rate ?? users ?? 0;
}
