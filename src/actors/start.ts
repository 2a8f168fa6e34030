import { setTimeout as delay } from "node:timers/promises";
import type { Config } from "../config/schema.js";
import {
  closeEngine,
  type EngineInfo,
  engineKv,
  NativeLane,
  openEngine,
  prefixTierCounts,
  setTokenTime,
} from "../engine/native-engine.js";
import { packedCache } from "../engine/packed-cache.js";
import { prefixTier } from "../engine/prefix-tier.js";
import { StreamServeError } from "../errors.js";
import type { GenerationService } from "../gateway/generation.js";
import { partDone } from "../runtime/start-times.js";
import { ActorSystem } from "../runtime/threads/system.js";
import { calibrate } from "./calibrate.js";
import { type DeploymentFacts, deployment, gatewayOptions, leastRingBytes } from "./deployment.js";
import { type DraftModel, openDraftModel } from "./draft-model.js";
import { GatewayActor } from "./gateway.js";
import { keptCalibrations } from "./kept-calibrations.js";
import { checkPromises } from "./promises.js";
import { readAnswers } from "./read-answers.js";
import type { Calibrations } from "./step-cost-priors.js";

/** A model served by its actors, each on its thread. */
export interface ServingRuntime {
  readonly service: GenerationService;
  /** Inspection, traces, logs and deaths of the actors. */
  readonly system: ActorSystem;
  /**
   * Takes no new requests, gives running ones `graceMs` (default 0) to end, cancels the rest, then stops all
   * threads and frees the engine. Idempotent.
   */
  stop(graceMs?: number): Promise<void>;
}

/** How often a stopping runtime looks whether its requests have ended, in milliseconds. */
const POLL_MS = 5;
/** How long cancelled requests and the actors' mailboxes may take to settle at a stop, in milliseconds. */
const SETTLE_MS = 2000;

/**
 * Opens a model file and starts the actors over it. Blocks the thread while weights are read. `notice` is told what
 * people should know and no error is. `draftPath`: the draft model's file, if there is to be one. Throws `config_invalid` for mailboxes that are too small for the lanes and
 * settings that the engine can't have, what else `openEngine` throws, and what the first actor to fail fails with; then
 * nothing is left open.
 */
export async function startRuntime(
  config: Config,
  modelPath: string,
  notice: (text: string) => void = () => undefined,
  draftPath?: string,
): Promise<ServingRuntime> {
  requireRoomyRings(config);
  const { kvTokens, kv, blockTokens, threads, affinity, instructionSet, contextTokens } = config.engine;
  const engine = configured(() =>
    openEngine({
      path: modelPath,
      kvTokens,
      kv,
      blockTokens,
      threads,
      affinity,
      instructionSet,
      contextTokens,
      cache: packedCache(config.engine),
      tier: prefixTier(config.engine),
    }),
  );
  if (engine.notice !== "") notice(engine.notice);
  const room = engineKv(engine.id).totalBlocks * engine.blockTokens;
  if (room < engine.contextTokens) {
    notice(
      `engine.kvTokens has room for ${room} tokens, the context for ${engine.contextTokens}: no request can have more than the lesser.`,
    );
  }
  partDone(`weights (${engine.weightsFrom})`);
  let draft: DraftModel | undefined;
  const close = () => {
    if (draft) closeEngine(draft.engine.id);
    closeEngine(engine.id);
  };
  try {
    if (draftPath !== undefined) {
      draft = await openDraftModel(config, engine, modelPath, draftPath);
      if (draft.engine.notice !== "") notice(draft.engine.notice);
      partDone(`draft model's weights (${draft.engine.weightsFrom})`);
    }
    const runtime = await startOver(config, engine, 0, modelPath, draft);
    return {
      ...runtime,
      stop: async (graceMs) => {
        await runtime.stop(graceMs);
        close();
      },
    };
  } catch (error) {
    close();
    throw error;
  }
}

function requireRoomyRings(config: Config): void {
  const least = leastRingBytes(config);
  if (config.runtime.ringBytes < least) {
    throw new StreamServeError(
      "config_invalid",
      `The lanes' largest messages need mailboxes of ${least} bytes: set runtime.ringBytes to that, or lower maxRows and maxBatchTokens of prefill and decode, or scheduler.maxRunning.`,
      { ringBytes: config.runtime.ringBytes, least },
    );
  }
}

/**
 * Starts the actors over an engine that is open, and leaves it open when they stop: several runtimes may share one.
 * Their lanes are numbered from `firstLane`, 2 * pairs + 1 of them. Steps are timed, or their times remembered if
 * `modelPath` says of which model. Throws as `startRuntime` does.
 */
export async function startOver(
  config: Config,
  engine: EngineInfo,
  firstLane: number,
  modelPath?: string,
  draft?: DraftModel,
): Promise<ServingRuntime> {
  requireRoomyRings(config);
  const { totalBlocks } = engineKv(engine.id);
  const room = totalBlocks * engine.blockTokens;
  const info = {
    model: config.model,
    // A request that the pool can never hold is told so at the door, like one beyond the model's context.
    contextTokens: Math.min(engine.contextTokens, room),
    vocabulary: engine.vocabulary,
    instructionSet: engine.instructionSet,
    threads: engine.threads,
    placement: engine.placement,
    kvTokens: room,
    pairs: config.pairs,
  };
  let system: ActorSystem | undefined;
  const gateway = new GatewayActor(gatewayOptions(config, info), () => ({
    deadLetters: system?.deadLetters ?? 0,
    restarts: system?.restarts ?? 0,
    kv: engineKv(engine.id),
    draftKv: draft && engineKv(draft.engine.id),
    prefixTier: config.engine.prefixTierBytes > 0 ? prefixTierCounts(engine.id) : undefined,
  }));
  const measure = () => calibrations(config, engine, firstLane + 2 * config.pairs);
  const timed = modelPath === undefined ? measure() : keptCalibrations(config, engine, modelPath, measure);
  partDone("times of steps");
  const dearest = timed.prefill?.points.at(-1);
  if (dearest !== undefined) setTokenTime(engine.id, dearest.ms / dearest.tokens);
  checkPromises(config, {
    prefill: timed.prefill?.points ?? [],
    decode: timed.decode?.points ?? [],
  });
  system = await ActorSystem.start(
    deployment(config, {
      calibrations: timed,
      totalBlocks,
      blockTokens: engine.blockTokens,
      firstLane,
      engine: { engine },
      knownAnswers: readAnswers(config, engine.vocabulary)?.table,
      ...(draft ? { draft: draftFacts(config, draft, firstLane + 2 * config.pairs) } : {}),
      laneResources: {
        module: new URL("./lane-resources.js", import.meta.url).href,
        name: "laneResources",
      },
    }),
    { behaviours: { gateway }, tracing: config.runtime.trace },
  );
  partDone("actors");
  const started = system;
  // Given up, it hears nothing any more: whoever waits for it is told now.
  started.on("failed", ({ name }) => {
    if (name === "gateway") gateway.stopped();
  });
  let stopping: Promise<void> | undefined;
  const stop = async (graceMs: number): Promise<void> => {
    gateway.drain();
    await settled(gateway, graceMs);
    gateway.cancelAll();
    await settled(gateway, SETTLE_MS);
    await started.stop({ drainMs: SETTLE_MS });
  };
  return {
    service: gateway,
    system,
    stop: (graceMs = 0) => {
      stopping ??= stop(graceMs);
      return stopping;
    },
  };
}

/** What decode lanes need to know of a draft model: its steps are timed, or remembered, as the model's own are. */
function draftFacts(config: Config, { engine, path }: DraftModel, number: number): DeploymentFacts["draft"] {
  const measured = keptCalibrations(config, engine, path, () => calibrations(config, engine, number));
  return { calibrations: measured, engine: { draft: engine } };
}

/** Times steps of both kinds of lanes, on lanes opened for it alone under number `number`. */
function calibrations(config: Config, engine: EngineInfo, number: number): Calibrations {
  const { calibrateMs } = config.stepCost;
  if (calibrateMs === 0) return {};
  const timed = (role: "prefill" | "decode") => {
    const { maxRows, maxBatchTokens } = config[role];
    const lane = new NativeLane({ engine, lane: number, role, maxRows, maxBatchTokens });
    try {
      return calibrate(lane, role, calibrateMs);
    } finally {
      lane.close();
    }
  };
  return { decode: timed("decode"), prefill: timed("prefill") };
}

/** Arguments come from the configuration: those that the engine refuses are its fault. */
function configured<T>(open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (!(error instanceof StreamServeError) || error.code !== "native_argument_invalid") throw error;
    throw new StreamServeError("config_invalid", error.message, error.details, { cause: error });
  }
}

async function settled(gateway: GatewayActor, withinMs: number): Promise<void> {
  for (let waited = 0; gateway.open > 0 && waited < withinMs; waited += POLL_MS) await delay(POLL_MS);
}
