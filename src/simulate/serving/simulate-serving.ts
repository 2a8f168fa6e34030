import { checkConfig } from "../../config/load.js";
import { type Config, configSchema } from "../../config/schema.js";
import type { Settings as SettingsLayer } from "../../config/sources.js";
import { GREEDY, type LaneEngine } from "../../engine/engine.js";
import { type CoreRole, SimulatedCores } from "../../engine/simulated-cores.js";
import { StreamServeError } from "../../errors.js";
import type { GenerationSink, GenerationSummary } from "../../gateway/generation.js";
import { House } from "../house.js";
import { Injector } from "../injector.js";
import type { Fault } from "../plan.js";
import { HandOffLinks, handOffMs } from "./hand-off.js";
import { stepCostOf } from "./hardware.js";
import { LaneWatch, roleOf } from "./lane-watch.js";
import { outcomeOf, Silence } from "./outcome.js";
import type { RequestOutcome, RequestText, ServingRun, ServingSetup, Strike, Workload } from "./serving.js";
import { VOCABULARY } from "./texts.js";

const UNFORESEEN = { vocabulary: VOCABULARY, draftability: 0 };
const PATIENCE_MS = 600_000;
/** When the actors are up. */
const FIRST_MS = 1;
const MOST_SLAB_BYTES = 2 ** 31 - 8;
const BYTES_A_TOKEN = 4;

/**
 * Serves the workload with the real actors on simulated lanes under a virtual clock. Every request of the result has
 * ended once. Throws `config_invalid` for settings that can't be used, and `internal` if requests have not ended
 * when patience has.
 */
export function simulateServing(setup: ServingSetup, workload: Workload): ServingRun {
  return new Serving(setup, workload).run();
}

/** The configuration of a run: defaults, then what the hardware says, then the settings. */
export function servingConfig({ hardware, pairs, settings }: ServingSetup, workload: Workload): Config {
  // What can't be used is refused below, with its name.
  const engine = configSchema.shape.engine.safeParse(settings?.engine ?? {});
  const { blockTokens } = engine.data ?? configSchema.shape.engine.parse({});
  const pools = hardware.ownPools ? pairs : 1;
  const base = {
    engine: { kvTokens: hardware.kvTokens * pools, contextTokens: hardware.contextTokens },
    scheduler: { maxRunning: 256 * pairs, maxWaiting: Math.max(1024, workload.requests.length) },
    runtime: { ringBytes: 1 << 22, promptSlabBytes: slabBytes(workload) },
    router: { handOffBlockMs: handOffMs(hardware, blockTokens) },
  };
  const config = checkConfig([
    layer(base, "the simulator"),
    layer(hardware.config, `the profile ${hardware.name}`),
    layer(settings ?? {}, "the settings"),
  ]);
  // More pairs than one process could run on threads.
  return { ...config, pairs };
}

/** Settings of which `name` is to blame. */
function layer(values: unknown, name: string): SettingsLayer {
  const place = (path: readonly PropertyKey[]) => {
    let at: unknown = values;
    for (const key of path) {
      if (typeof at !== "object" || at === null || !(key in at)) return undefined;
      at = (at as Readonly<Record<PropertyKey, unknown>>)[key];
    }
    return name;
  };
  return { values, place };
}

/** Room for all prompts at once, as far as a slab can be addressed. */
function slabBytes({ requests }: Workload): number {
  const tokens = requests.reduce(
    (sum, { promptTokens, outputTokens }) => sum + promptTokens + outputTokens,
    0,
  );
  return Math.min(MOST_SLAB_BYTES, 2 ** Math.ceil(Math.log2(Math.max(1 << 20, 2 * BYTES_A_TOKEN * tokens))));
}

class Serving {
  readonly #house: House;
  readonly #watch: LaneWatch;
  readonly #links: HandOffLinks;
  readonly #injector: Injector;
  readonly #strikes: Struck[] = [];
  readonly #config: Config;
  /** Ends an answer before its limit: the one id that no text has. */
  readonly #stopId: number;
  readonly #answers = new Map<number, RequestText>();
  readonly #outcomes: RequestOutcome[] = [];
  #next = 0;

  constructor(
    readonly setup: ServingSetup,
    readonly workload: Workload,
  ) {
    const { hardware, pairs, seed, drawn: { vocabulary, draftability } = UNFORESEEN } = setup;
    this.#stopId = vocabulary;
    const config = servingConfig(setup, workload);
    this.#config = config;
    const { sharedFactor, prefillSharedFactor = sharedFactor, actors } = hardware;
    const shared = { prefill: prefillSharedFactor, decode: sharedFactor };
    const cores = Math.max(...Object.values(shared)) > 1 ? this.#cores(shared) : undefined;
    this.#watch = new LaneWatch(pairs);
    this.#links = new HandOffLinks(hardware.handOff);
    this.#house = new House({
      config,
      model: {
        seed: 7,
        vocabulary: vocabulary + 1,
        draftability,
        written: (request, index) => this.#written(request, index),
      },
      cost: stepCostOf(hardware, "prefill"),
      decodeCost: stepCostOf(hardware, "decode"),
      contextTokens: config.engine.contextTokens,
      ownPools: hardware.ownPools,
      simulation: {
        seed,
        transitMs: (from, to, message, now) =>
          actors && message.type === "submit"
            ? actors.requestMs
            : this.#links.transitMs(from, to, message, now),
      },
      disturbances: ({ name }) => ({
        slowdown: () => (setup.slowness?.(name) ?? 1) * this.#injector.slowdown(name),
        ...(cores && { begin: (ms: number) => cores.begin(roleOf(name), ms) }),
        failure: () => this.#injector.failure(name),
      }),
      tampering: {
        lane: (engine: LaneEngine, { name }) => this.#watch.lane(engine, name),
        functions: ({ name }, honest) => {
          this.#lives(name);
          return honest;
        },
      },
    });
    const sim = this.#house.simulation;
    // Its zero is when the first request may come.
    const clock = {
      now: () => sim.now - FIRST_MS,
      after: (ms: number, action: () => void) => sim.at(Math.max(sim.now, FIRST_MS) + ms, action),
    };
    this.#injector = new Injector(setup.faults ?? [], this.#house, clock, (fault) => {
      this.#strikes.push({ fault, fromMs: clock.now(), backMs: undefined });
    });
  }

  #cores(factors: Readonly<Record<CoreRole, number>>): SimulatedCores {
    return new SimulatedCores(factors, () => this.#house.simulation.now);
  }

  run(): ServingRun {
    const { requests, users } = this.workload;
    const sim = this.#house.simulation;
    let lastAt = 0;
    if (users === undefined) {
      for (const [number, request] of requests.entries()) {
        lastAt = Math.max(lastAt, request.atMs);
        sim.at(FIRST_MS + request.atMs, () => this.#submit(number, () => {}));
      }
    } else sim.at(FIRST_MS, () => this.#startUsers(Math.min(users, requests.length)));
    const patience = this.setup.patienceMs ?? PATIENCE_MS;
    let heardAt = lastAt;
    let ended = 0;
    const until = () => FIRST_MS + Math.max(lastAt, heardAt, this.#injector.disturbedUntil) + patience;
    while (this.#outcomes.length < requests.length && sim.now < until()) {
      if (!sim.step()) break;
      if (this.#outcomes.length > ended) {
        ended = this.#outcomes.length;
        heardAt = sim.now;
      }
    }
    const left = requests.length - this.#outcomes.length;
    if (left > 0) {
      throw new StreamServeError(
        "internal",
        `${left} requests did not end within ${patience} ms of the last.`,
      );
    }
    const first = users === undefined ? (requests[0]?.atMs ?? 0) : 0;
    return {
      config: this.#config,
      requests: this.#outcomes,
      prefill: this.#watch.use("prefill"),
      decode: this.#watch.use("decode"),
      handOffs: this.#links.handOffs,
      movedTokens: this.#links.movedTokens,
      movingMs: this.#links.movingMs,
      strikes: this.#strikes.map(strikeOf),
      restarts: sim.restarts,
      resumptions: this.#house.gateway.snapshot().resumptions,
      spanMs: sim.now - FIRST_MS - first,
      events: sim.eventCount,
    };
  }

  /** An actor begins a life: what it died of is over. */
  #lives(name: string): void {
    for (const strike of this.#strikes) {
      const { kind, actor } = strike.fault;
      if (kind === "kill" && actor === name) strike.backMs ??= this.#house.simulation.now - FIRST_MS;
    }
  }

  #startUsers(users: number): void {
    for (let user = 0; user < users; user++) this.#nextOfUser();
  }

  #nextOfUser(): void {
    if (this.#next >= this.workload.requests.length) return;
    const sim = this.#house.simulation;
    this.#submit(this.#next++, () => {
      // After the turn in hand: a refusal comes before `generate` returns.
      sim.at(sim.now + (this.workload.thinkMs ?? 0), () => this.#nextOfUser());
    });
  }

  #submit(number: number, ended: () => void): void {
    const request = this.workload.requests[number]!;
    const { outputTokens, maxTokens = outputTokens } = request;
    const text = request.text();
    const seed = number + 1;
    if (text.answer) this.#answers.set(seed, text);
    const sim = this.#house.simulation;
    const submittedAt = sim.now;
    let finished = false;
    const silence = new Silence();
    const end = (outcome: string, summary: GenerationSummary | undefined) => {
      if (finished) throw new StreamServeError("internal", `Request ${number} ended twice.`);
      finished = true;
      this.#answers.delete(seed);
      const came = { atMs: submittedAt - FIRST_MS, set: request.set };
      this.#outcomes.push(outcomeOf(came, outcome, summary, silence.longestMs, sim.now - submittedAt));
      ended();
    };
    const sink: GenerationSink = {
      tokens: () => silence.heard(sim.now),
      done: (summary) => end("done", summary),
      failed: (error) => end(error.code, undefined),
    };
    this.#house.gateway.generate(
      {
        prompt: text.prompt,
        maxTokens,
        // Without an end before its limit: what is drawn might be that id.
        sampling: { ...GREEDY, seed, stopIds: outputTokens < maxTokens ? [this.#stopId] : [] },
        class: request.class ?? "interactive",
        ...(request.tenant === undefined ? {} : { tenant: request.tenant }),
        deadlineMs: 0,
        credit: Number.POSITIVE_INFINITY,
      },
      sink,
    );
  }

  /** The recorded token; the last one is the stop id, where the client would have taken more. */
  #written(seed: number, index: number): number | undefined {
    const request = this.workload.requests[seed - 1];
    if (!request) return undefined;
    const { outputTokens, maxTokens = outputTokens } = request;
    if (index >= outputTokens - 1 && outputTokens < maxTokens) return this.#stopId;
    const answer = this.#answers.get(seed)?.answer;
    return answer && answer.length > 0 ? answer[index % answer.length] : undefined;
  }
}

interface Struck {
  readonly fault: Fault;
  readonly fromMs: number;
  backMs: number | undefined;
}

function strikeOf({ fault, fromMs, backMs = Number.POSITIVE_INFINITY }: Struck): Strike {
  const { kind } = fault;
  const toMs = kind === "kill" ? backMs : kind === "step-fails" ? fromMs : fromMs + fault.forMs;
  return { fault, fromMs, toMs };
}
