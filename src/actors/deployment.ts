import type { Config } from "../config/schema.js";
import type { ServiceInfo } from "../gateway/generation.js";
import { StepCost } from "../policy/step-cost.js";
import type {
  ActorSpec,
  Deployment,
  EdgeSpec,
  ExportRef,
  RestartPolicy,
  WhenFull,
} from "../runtime/actor.js";
import type { DecodeOptions } from "./decode-lane.js";
import type { GatewayOptions } from "./gateway-options.js";
import { protocol } from "./messages.js";
import type { PrefillOptions } from "./prefill-lane.js";
import type { RouterOptions } from "./router.js";
import type { SchedulerOptions } from "./scheduler.js";
import { assumedTimes, type Calibrations, type StepCostPriors, stepCostPriors } from "./step-cost-priors.js";
import type { TunerOptions } from "./tuner.js";

/** What a deployment needs to know besides the configuration. */
export interface DeploymentFacts {
  readonly totalBlocks: number;
  readonly blockTokens: number;
  /** True where each pair's devices have a KV pool of their own, all of one size; else all lanes share one. */
  readonly ownPools?: boolean;
  /** True where each lane has a device of its own; else they share cores. */
  readonly ownDevices?: boolean;
  /** Added to each lane's options for its `resources`: how to reach the engine. */
  readonly engine: Readonly<Record<string, unknown>>;
  /** Number of the first lane in the engine: 0 unless others use it too. */
  readonly firstLane?: number;
  /** Step times that were measured at start. */
  readonly calibrations?: Calibrations;
  /** The same of the draft model, if there is one, and how lanes that decode reach it: added to their options. */
  readonly draft?: {
    readonly calibrations: Calibrations;
    readonly engine: Readonly<Record<string, unknown>>;
  };
  /** What the model answered elsewhere, see `answersTable`: decode lanes draft from it. */
  readonly knownAnswers?: SharedArrayBuffer | undefined;
  /** Opens a lane's engine; absent where the host provides it (the simulator). */
  readonly laneResources?: ExportRef;
}

/** Number of a lane in the engine. */
function laneNumber(role: "prefill" | "decode", pair: number, { firstLane = 0 }: DeploymentFacts): number {
  return firstLane + 2 * pair + (role === "prefill" ? 0 : 1);
}

/** The pair of a lane in the engine. */
export function pairOf(lane: number): number {
  return lane >> 1;
}

/** Bytes of a row and of a drawn token with all its log-probabilities in a `tokens` message, and of an audited request. */
const ROW_BYTES = 40;
const TOKEN_BYTES = 8 + 8 * 20;
const AUDITED_BYTES = 8;
/** What frames and messages have besides. */
const MESSAGE_BYTES = 256;

/**
 * The least `runtime.ringBytes` that takes whatever a lane may have to say in one message (a frame takes at most half
 * of its ring): a lane that can't say it dies, and so do its successors.
 */
export function leastRingBytes({ prefill, decode, scheduler }: Config): number {
  const step = ({ maxRows, maxBatchTokens }: Config["prefill"] | Config["decode"]) =>
    // A row may repeat the token that prefill drew.
    maxRows * ROW_BYTES + (maxBatchTokens + maxRows) * TOKEN_BYTES;
  const most = Math.max(step(prefill), step(decode), scheduler.maxRunning * AUDITED_BYTES);
  return 2 ** Math.ceil(Math.log2(2 * (most + MESSAGE_BYTES)));
}

export function gatewayOptions(config: Config, info: ServiceInfo): GatewayOptions {
  return {
    info,
    maxAttempts: config.scheduler.maxAttempts,
    isolateTenants: config.engine.isolateTenants,
    stallMs: config.server.stallMs,
    idleMs: config.scheduler.idleReaderMs,
    closeMs: config.scheduler.closeMs,
    tickMs: config.runtime.gatewayTickMs,
    retryMs: config.runtime.gatewayRetryMs,
  };
}

/**
 * The actors of StreamServe and the edges between them. A request's way down is `block` from the scheduler on,
 * so that nothing admitted is dropped; whatever flows against it is `refuse`, with an outbox at its sender, so
 * that no circle of actors can wait for itself; load and step statistics are `drop-oldest`.
 */
export function deployment(config: Config, facts: DeploymentFacts): Deployment {
  const pairs = Array.from({ length: config.pairs }, (_, pair) => pair);
  return {
    protocol,
    protocolRef: { module: new URL("./messages.js", import.meta.url).href, name: "protocol" },
    actors: actors(config, facts, pairs),
    edges: edges(config, pairs, balances(config, facts)),
    slabs: [{ owner: "gateway", bytes: config.runtime.promptSlabBytes }],
  };
}

function behaviour(file: string, name: string): ExportRef {
  return { module: new URL(`./${file}.js`, import.meta.url).href, name };
}

function actors(config: Config, facts: DeploymentFacts, pairs: readonly number[]): ActorSpec[] {
  const restart: RestartPolicy = {
    most: config.runtime.restarts,
    withinMs: config.runtime.restartWithinMs,
    delayMs: config.runtime.restartDelayMs,
    mostDelayMs: config.runtime.mostRestartDelayMs,
  };
  const lane = (
    role: "prefill" | "decode",
    pair: number,
    options: PrefillOptions | DecodeOptions,
  ): ActorSpec => ({
    name: `${role}.${pair}`,
    behaviour: behaviour(`${role}-lane`, `${role}Lane`),
    options: { ...options, ...facts.engine, role, lane: laneNumber(role, pair, facts) },
    ...(facts.laneResources ? { resources: facts.laneResources } : {}),
    restart,
  });
  const costs = stepCostPriors(config, facts.calibrations ?? {});
  return [
    // A live object of the host program: see `gatewayOptions` and `StartOptions.behaviours`.
    {
      name: "gateway",
      behaviour: behaviour("gateway", "GatewayActor"),
      options: {},
      thread: "main",
      restart,
    },
    {
      name: "scheduler",
      behaviour: behaviour("scheduler", "scheduler"),
      options: schedulerOptions(config, facts, costs),
      restart,
    },
    {
      name: "router",
      behaviour: behaviour("router", "router"),
      options: routerOptions(config, facts, costs),
      restart,
    },
    { name: "tuner", behaviour: behaviour("tuner", "tuner"), options: tunerOptions(config), restart },
    ...pairs.map((pair) => lane("prefill", pair, prefillOptions(config, pair, costs, facts))),
    ...pairs.map((pair) => lane("decode", pair, decodeOptions(config, pair, costs, facts))),
  ];
}

/** Whether lanes do each other's work: where they share cores an idle one's are the other's already. */
function balances({ router, lanes }: Config, { ownDevices = false }: DeploymentFacts): boolean {
  if (lanes === "fused") return false;
  return router.roles === "balanced" || (router.roles === "auto" && ownDevices);
}

function edges(config: Config, pairs: readonly number[], balanced: boolean): EdgeSpec[] {
  const { ringBytes, signalRingBytes } = config.runtime;
  const edge = (from: string, to: string, whenFull: WhenFull): EdgeSpec => ({
    from,
    to,
    whenFull,
    bytes: whenFull === "drop-oldest" ? signalRingBytes : ringBytes,
  });
  return [
    edge("gateway", "scheduler", "refuse"),
    edge("scheduler", "gateway", "block"),
    edge("scheduler", "router", "block"),
    edge("router", "scheduler", "refuse"),
    ...pairs.flatMap((pair) => [
      edge("router", `prefill.${pair}`, "block"),
      edge("router", `decode.${pair}`, "block"),
      edge(`prefill.${pair}`, `decode.${pair}`, "block"),
      edge(`prefill.${pair}`, "gateway", "block"),
      edge(`decode.${pair}`, "gateway", "block"),
      edge(`prefill.${pair}`, "scheduler", "refuse"),
      edge(`decode.${pair}`, "scheduler", "refuse"),
      edge("gateway", `decode.${pair}`, "refuse"),
      edge(`prefill.${pair}`, "router", "drop-oldest"),
      edge(`decode.${pair}`, "router", "drop-oldest"),
      edge(`decode.${pair}`, "tuner", "drop-oldest"),
      edge("tuner", `decode.${pair}`, "drop-oldest"),
    ]),
    // A prefill lane that decodes has what a decode lane has.
    ...(balanced ? pairs : []).flatMap((pair) => [
      edge("gateway", `prefill.${pair}`, "refuse"),
      edge(`prefill.${pair}`, "tuner", "drop-oldest"),
      edge("tuner", `prefill.${pair}`, "drop-oldest"),
    ]),
  ];
}

function schedulerOptions(config: Config, facts: DeploymentFacts, costs: StepCostPriors): SchedulerOptions {
  const { scheduler, pairs } = config;
  const { policy, maxRunning, maxWaiting, passMs, offlinePatienceMs, lookAhead } = scheduler;
  const { mostTenants, outputWeight, lengthMemory, lengthShare, predictionShare } = scheduler;
  const { holdMemory, retryAfterMs, mostRetryAfterMs, auditMs } = scheduler;
  return {
    pairs,
    totalBlocks: facts.totalBlocks,
    admitting: {
      policy,
      fused: config.lanes === "fused",
      blockTokens: facts.blockTokens,
      maxRunning,
      admission: { maxWaiting, passMs, offlinePatienceMs, lookAhead, mostTenants, outputWeight },
      objectives: [scheduler.interactive, scheduler.offline],
      predictionShare,
      lengthMemory,
      lengthShare,
      holdMemory,
      retryAfterMs,
      mostRetryAfterMs,
      forecast: {
        pairs,
        maxRows: maxRunning,
        decodeCost: Array.from(new StepCost(costs.decode).times.toArray()),
      },
    },
    auditMs,
  };
}

function routerOptions(config: Config, facts: DeploymentFacts, costs: StepCostPriors): RouterOptions {
  const { prefixGrainTokens, prefixGrains, roles, ...constants } = config.router;
  const guard = {
    ...constants,
    ...assumedTimes(costs),
    balanced: balances(config, facts),
    directTokens: roles === "static" ? 0 : constants.directTokens,
    fused: config.lanes === "fused",
    maxRows: config.decode.maxRows,
    stepTokens: config.prefill.maxBatchTokens,
  };
  const pools = facts.ownPools ? config.pairs : 1;
  const poolTokens = (facts.totalBlocks * facts.blockTokens) / pools;
  const prefixes = {
    pools,
    grainTokens: prefixGrainTokens,
    poolGrains: Math.floor(poolTokens / prefixGrainTokens),
    most: prefixGrains,
  };
  return { pairs: config.pairs, blockTokens: facts.blockTokens, guard, prefixes };
}

function tunerOptions(config: Config): TunerOptions {
  return { drafting: config.speculation };
}

function prefillOptions(
  config: Config,
  pair: number,
  costs: StepCostPriors,
  facts: DeploymentFacts,
): PrefillOptions {
  const { prefill, decode } = config;
  const options = {
    pair,
    decodeLane: laneNumber("decode", pair, facts),
    ...prefill,
    promptRows: prefill.maxRows,
    stepCost: costs.prefill,
  };
  if (!balances(config, facts)) return options;
  const kept = decodeOptions(config, pair, costs, facts);
  return { ...options, ...facts.draft?.engine, maxRows: Math.max(prefill.maxRows, decode.maxRows), kept };
}

function decodeOptions(
  config: Config,
  pair: number,
  costs: StepCostPriors,
  { draft, knownAnswers }: DeploymentFacts,
): DecodeOptions {
  return {
    ...draft?.engine,
    ...(draft ? { draftCost: stepCostPriors(config, draft.calibrations).decode } : {}),
    pair,
    ...config.decode,
    stepCost: costs.decode,
    speculation: config.speculation,
    knownAnswers,
    stallMs: config.server.stallMs,
  };
}
