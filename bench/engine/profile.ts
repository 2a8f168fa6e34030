import type { NativeLane, OperationProfile } from "#streamserve/engine/native-engine.js";
import { ProfiledLane, type ProfiledStep } from "./profiled-lane.js";
import { LaneWorkload } from "./workload.js";

/** What is profiled: all steps of one kind, told from the steps that prepare them by their rows and tokens. */
export interface ProfiledWorkload {
  readonly name: string;
  readonly rows: number;
  readonly tokens: number;
  run(lane: LaneWorkload): void;
}

const PROMPT_TOKENS = 128;
/** Steps of a decode or verification run: a few prompts' time at most. */
const STEPS = 16;
const DRAFTS = 8;

const decode = (sequences: number): ProfiledWorkload => ({
  name: `decode ${sequences}`,
  rows: sequences,
  tokens: sequences,
  run: (lane) => void lane.decode(sequences, PROMPT_TOKENS, STEPS),
});

export const PROFILED_WORKLOADS: readonly ProfiledWorkload[] = [
  { name: "prefill 512", rows: 1, tokens: 512, run: (lane) => void lane.prefill(512) },
  decode(1),
  decode(8),
  decode(32),
  {
    name: `verify ${DRAFTS} drafts`,
    rows: 1,
    tokens: DRAFTS + 1,
    run: (lane) => void lane.verify(DRAFTS, PROMPT_TOKENS, STEPS),
  },
];

/** A step of a workload: means over the middle half of all that ran, by compute time, so that they still add up. */
export interface StepBreakdown {
  readonly workload: string;
  /** Steps that ran, and how many of them the means are of. */
  readonly steps: number;
  readonly averaged: number;
  readonly wallMs: number;
  readonly waitMs: number;
  readonly computeMs: number;
  readonly operations: readonly OperationProfile[];
}

/** Runs `workload` once unmeasured and then `rounds` times on `lane`, which was opened with `profile`. */
export function profileWorkload(
  native: NativeLane,
  workload: ProfiledWorkload,
  rounds: number,
): StepBreakdown {
  const lane = new ProfiledLane(native);
  const runs = new LaneWorkload(lane);
  workload.run(runs);
  lane.takeSteps();
  for (let round = 0; round < rounds; round++) workload.run(runs);
  const steps = lane
    .takeSteps()
    .filter(({ rows, tokens }) => rows === workload.rows && tokens === workload.tokens);
  return breakDown(workload.name, steps);
}

/** `steps`: of one kind, at least one. */
export function breakDown(workload: string, steps: readonly ProfiledStep[]): StepBreakdown {
  const sorted = [...steps].sort((a, b) => a.computeMs - b.computeMs);
  const aside = Math.floor(sorted.length / 4);
  const kept = sorted.slice(aside, sorted.length - aside);
  const mean = (value: (step: ProfiledStep) => number) =>
    kept.reduce((sum, step) => sum + value(step), 0) / kept.length;
  const operations = kept[0]!.operations.map((first, index): OperationProfile => {
    const meanOf = (field: Exclude<keyof OperationProfile, "operation">) =>
      mean(({ operations }) => operations[index]![field]);
    return {
      operation: first.operation,
      regions: first.regions,
      ms: meanOf("ms"),
      weightBytes: meanOf("weightBytes"),
      kvBytes: meanOf("kvBytes"),
      activationBytes: meanOf("activationBytes"),
      int8Macs: meanOf("int8Macs"),
      f32Macs: meanOf("f32Macs"),
    };
  });
  return {
    workload,
    steps: steps.length,
    averaged: kept.length,
    wallMs: mean((step) => step.wallMs),
    waitMs: mean((step) => step.waitMs),
    computeMs: mean((step) => step.computeMs),
    operations,
  };
}
