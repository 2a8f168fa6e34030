import { timeStepAlone } from "#streamserve/actors/timed-step.js";
import { type EngineInfo, NativeLane } from "#streamserve/engine/native-engine.js";
import { type StepCostModel, stepMs } from "#streamserve/engine/simulated-cost.js";
import { median } from "#streamserve/report/statistics.js";
import { type HardwareProfile, stepCostOf } from "#streamserve/simulate/serving/hardware.js";

/**
 * How fast a machine is just now beside its profile: bare steps, timed while nothing else is asked of it. It changes from
 * minute to minute by more than a prediction is off.
 */
export class MachineSpeed {
  readonly #prefill: NativeLane;
  readonly #decode: NativeLane;
  readonly #costs: { readonly prefill: StepCostModel; readonly decode: StepCostModel };

  /** `engine`: one of the profile's model. */
  constructor(engine: EngineInfo, hardware: HardwareProfile) {
    this.#prefill = new NativeLane({
      engine,
      lane: 0,
      role: "prefill",
      maxRows: 1,
      maxBatchTokens: PROMPT_TOKENS,
    });
    this.#decode = new NativeLane({
      engine,
      lane: 1,
      role: "decode",
      maxRows: 1,
      maxBatchTokens: PROMPT_TOKENS,
    });
    const { actors: _, ...bare } = hardware;
    this.#costs = { prefill: stepCostOf(bare, "prefill"), decode: stepCostOf(bare, "decode") };
  }

  /** How many times as long steps take as the profile says: half a second. */
  slower(): number {
    const times = Array.from({ length: ROUNDS }, () => {
      const prompt =
        timeStepAlone(this.#prefill, PROMPT_TOKENS, 0) / this.#expected("prefill", PROMPT_TOKENS);
      const token = timeStepAlone(this.#decode, 1, 0) / this.#expected("decode", 1);
      return Math.sqrt(prompt * token);
    });
    return median(times.slice(WARMING));
  }

  #expected(role: "prefill" | "decode", tokens: number): number {
    return stepMs(this.#costs[role], 1, tokens, (tokens * tokens) / 2);
  }
}

const PROMPT_TOKENS = 256;
const ROUNDS = 9;
/** Of these, the first ones warm up. */
const WARMING = 2;

/** The profile of a machine whose steps take so many times as long. */
export function slowed(hardware: HardwareProfile, times: number): HardwareProfile {
  const { step, decodeStep, actors } = hardware;
  return {
    ...hardware,
    step: slowedStep(step, times),
    ...(decodeStep && { decodeStep: slowedStep(decodeStep, times) }),
    ...(actors && {
      actors: {
        stepMs: times * actors.stepMs,
        tokenMs: times * actors.tokenMs,
        requestMs: times * actors.requestMs,
      },
    }),
  };
}

function slowedStep(step: HardwareProfile["step"], times: number): HardwareProfile["step"] {
  const { baseMs, rowMs, tokenMs, contextMs, readMs, points } = step;
  return {
    baseMs: times * baseMs,
    rowMs: times * rowMs,
    tokenMs: times * tokenMs,
    contextMs: times * contextMs,
    readMs: times * readMs,
    points: points?.map(({ tokens, ms }) => ({ tokens, ms: times * ms })),
  };
}
