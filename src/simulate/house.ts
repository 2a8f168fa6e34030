import type { Calibration } from "../actors/calibrate.js";
import { decodeLane } from "../actors/decode-lane.js";
import { deployment, gatewayOptions, pairOf } from "../actors/deployment.js";
import { GatewayActor } from "../actors/gateway.js";
import type { AppMessage } from "../actors/messages.js";
import { prefillLane } from "../actors/prefill-lane.js";
import { router } from "../actors/router.js";
import { scheduler } from "../actors/scheduler.js";
import { tuner } from "../actors/tuner.js";
import type { Config } from "../config/schema.js";
import type { LaneEngine, LaneLimits } from "../engine/engine.js";
import { type StepCostModel, stepMs } from "../engine/simulated-cost.js";
import type { SimulatedLaneOptions } from "../engine/simulated-engine.js";
import { SimulatedEngine } from "../engine/simulated-house.js";
import type { SimulatedModel } from "../engine/simulated-model.js";
import type { ActorSpec, EdgeSpec } from "../runtime/actor.js";
import {
  Simulation,
  type SimulationOptions,
  type VirtualFunctions,
} from "../runtime/simulation/simulation.js";
import type { Victims } from "./injector.js";

/** Where a planted bug steps in: each may replace what it is given. */
export interface Tampering {
  /** A lane's face of the engine. */
  readonly lane?: (engine: LaneEngine, spec: ActorSpec) => LaneEngine;
  /** The functions of an actor. */
  readonly functions?: (
    spec: ActorSpec,
    honest: VirtualFunctions<AppMessage>,
  ) => VirtualFunctions<AppMessage>;
}

/** What befalls a lane's device: see `SimulatedLaneOptions`. */
export type Disturbances = Pick<SimulatedLaneOptions, "slowdown" | "begin" | "failure">;

export interface HouseOptions {
  readonly config: Config;
  readonly model: SimulatedModel;
  readonly cost: StepCostModel;
  /** Of decode lanes, where their steps cost something else. */
  readonly decodeCost?: StepCostModel;
  readonly contextTokens: number;
  /** True: each pair has a KV pool of its own, an equal part of `engine.kvTokens`; else all lanes share one. */
  readonly ownPools?: boolean;
  readonly simulation: Omit<SimulationOptions, "functions">;
  readonly disturbances?: (spec: ActorSpec) => Disturbances;
  readonly tampering?: Tampering;
}

type LaneOptions = Pick<LaneLimits, "maxRows" | "maxBatchTokens"> & { readonly lane: number };

/** Sizes of steps that a start on a real engine would have timed. */
const TIMED = [1, 2, 4, 8, 16, 32, 64, 128, 256];

function calibration(cost: StepCostModel): Calibration {
  return { points: TIMED.map((tokens) => ({ tokens, ms: stepMs(cost, 1, tokens, (tokens * tokens) / 2) })) };
}

/** The whole of StreamServe under a virtual clock: its actors, a simulated engine, and the gateway's service. */
export class House implements Victims {
  readonly simulation: Simulation;
  /** The engine of all lanes; with pools of their own, that of pair 0. */
  readonly engine: SimulatedEngine;
  /** One a pool. */
  readonly engines: readonly SimulatedEngine[];
  readonly gateway: GatewayActor;
  readonly edges: readonly EdgeSpec[];

  constructor(readonly options: HouseOptions) {
    const { config, model, cost, decodeCost = cost, contextTokens, tampering } = options;
    const { blockTokens, kvTokens } = config.engine;
    const totalBlocks = Math.floor(kvTokens / blockTokens);
    const ownPools = options.ownPools ?? false;
    const pools = ownPools ? config.pairs : 1;
    const poolBlocks = Math.floor(totalBlocks / pools);
    this.engines = Array.from(
      { length: pools },
      () => new SimulatedEngine({ model, cost, contextTokens, blockTokens, totalBlocks: poolBlocks }),
    );
    this.engine = this.engines[0] as SimulatedEngine;
    const info = {
      model: "simulated",
      contextTokens,
      vocabulary: model.vocabulary,
      instructionSet: "virtual",
      pairs: config.pairs,
      threads: 0,
      placement: "simulated",
      kvTokens,
    };
    this.gateway = new GatewayActor(gatewayOptions(config, info), () => ({
      deadLetters: this.simulation.deadLetters,
      restarts: this.simulation.restarts,
      kv: this.engine.pool.counts(),
    }));
    const honest = (spec: ActorSpec): VirtualFunctions<AppMessage> => {
      const role = spec.name.split(".")[0];
      const resources = (lane: LaneOptions): LaneEngine => {
        const engine = this.engines[pairOf(lane.lane) % pools] as SimulatedEngine;
        const stepCost = role === "decode" ? decodeCost : cost;
        const opened = engine.open(lane.lane, lane, options.disturbances?.(spec), stepCost);
        return tampering?.lane?.(opened, spec) ?? opened;
      };
      if (role === "gateway") return { behaviour: () => this.gateway };
      if (role === "scheduler") return { behaviour: scheduler };
      if (role === "router") return { behaviour: router };
      if (role === "tuner") return { behaviour: tuner };
      if (role === "prefill") return { behaviour: prefillLane, resources };
      return { behaviour: decodeLane, resources };
    };
    const calibrations = { prefill: calibration(cost), decode: calibration(decodeCost) };
    const deployed = deployment(config, {
      totalBlocks,
      blockTokens,
      ownPools,
      ownDevices: true,
      calibrations,
      engine: {},
    });
    this.edges = deployed.edges;
    this.simulation = new Simulation(deployed, {
      ...options.simulation,
      functions: (spec) => {
        const functions = honest(spec);
        return (tampering?.functions?.(spec, functions) ?? functions) as VirtualFunctions<never>;
      },
    });
  }

  kill(actor: string, downMs: number): void {
    this.simulation.kill(actor, downMs);
  }

  pause(actor: string, forMs: number): void {
    this.simulation.pause(actor, forMs);
  }

  fill(actor: string, forMs: number): void {
    for (const { from, to } of this.edges) if (to === actor) this.simulation.jam(from, to, forMs);
  }
}
