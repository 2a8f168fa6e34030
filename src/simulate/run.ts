import type { AppMessage } from "../actors/messages.js";
import type { LaneEngine } from "../engine/engine.js";
import type { SimulatedEngine } from "../engine/simulated-house.js";
import { answerOf } from "../engine/simulated-model.js";
import type { GenerationService } from "../gateway/generation.js";
import type { Behaviour } from "../runtime/actor.js";
import type { Simulation } from "../runtime/simulation/simulation.js";
import { Checks } from "./checks.js";
import { wrongEnding } from "./endings.js";
import { History } from "./history.js";
import { House } from "./house.js";
import { Injector } from "./injector.js";
import { LaneProbe } from "./lane-probe.js";
import { describeTurn, observed, requestsOf, type Turn } from "./observed.js";
import { patienceMs } from "./patience.js";
import type { Fault, Plan } from "./plan.js";
import { quietAtLast } from "./quiescence.js";
import { Random } from "./random.js";
import { actorNames } from "./random-plan.js";
import { type Clock, SimulatedReader } from "./reader.js";
import { Recovery } from "./recovery.js";
import type { RunFailure, RunResult } from "./run-result.js";
import { ShareCheck } from "./share-check.js";
import { configOf } from "./topology-config.js";
import { Violation } from "./violation.js";

/** How a run differs from the real thing: the planted bugs that the invariants must catch. */
export interface Tampering {
  readonly behaviour?: (actor: string, behaviour: Behaviour<AppMessage>) => Behaviour<AppMessage>;
  /** Behind the probe: what the engine does. */
  readonly engine?: (lane: string, engine: LaneEngine, house: SimulatedEngine) => LaneEngine;
  /** Before the probe: how the lane uses its engine. */
  readonly probe?: (lane: string, engine: LaneEngine) => LaneEngine;
  readonly service?: (service: GenerationService) => GenerationService;
}

/** Events kept in words for the report of a violation, unless told otherwise. */
export const TAIL = 60;
/** After the last request has ended: time to forget everything, in milliseconds. */
const SETTLE_MS = 1_000;
/** Events after which a run counts as stuck, whatever the clock says. */
const MOST_EVENTS = 5_000_000;

/** Plays a plan with the real actors under a virtual clock, and checks the invariants after every event. */
export function runPlan(plan: Plan, tampering: Tampering = {}, tail: number = TAIL): RunResult {
  return new Run(plan, tampering, tail).play();
}

class Run {
  readonly #plan: Plan;
  readonly #tampering: Tampering;
  readonly #history: History;
  readonly #house: House;
  readonly #readers: SimulatedReader[];
  readonly #clock: Clock;
  readonly #sim: Simulation;
  readonly #injector: Injector;
  readonly #checks: Checks;
  readonly #recovery: Recovery;
  readonly #submitted: SimulatedReader[] = [];
  readonly #service: GenerationService;
  readonly #shares: ShareCheck | undefined;
  /** Requests that were admitted once, or have ended. */
  readonly #unwaited = new Set<SimulatedReader>();
  readonly #open = new Set<SimulatedReader>();
  #left: number;
  #failure: RunFailure | undefined;

  constructor(plan: Plan, tampering: Tampering, tail: number) {
    this.#history = new History(tail);
    this.#plan = plan;
    this.#tampering = tampering;
    const { topology } = plan;
    const noise = new Random(plan.seed + 1);
    this.#clock = {
      now: () => this.#sim.now,
      after: (ms, action) => this.#sim.at(this.#sim.now + ms, action),
    };
    const violated = (violation: Violation) => this.#fail(violation);
    this.#readers = plan.requests.map((request, number) => {
      const answer = answerOf(topology.model, request.prompt, request.sampling, request.maxTokens);
      return new SimulatedReader(
        number,
        request,
        answer,
        this.#clock,
        (reader) => this.#heard(reader),
        violated,
      );
    });
    this.#left = this.#readers.length;
    this.#shares = ShareCheck.of(topology, plan.requests, plan.faults.length);
    this.#recovery = new Recovery(this.#readers, this.#clock);
    this.#house = new House({
      config: configOf(topology),
      model: topology.model,
      cost: topology.cost,
      contextTokens: topology.contextTokens,
      simulation: {
        seed: plan.seed,
        roundTrip: true,
        afterEvent: () => this.#afterEvent(),
        died: (name, error) =>
          this.#fail(new Violation("crash", `${name} threw ${error.stack ?? error.message}`)),
        failed: (name, error) => this.#fail(new Violation("crash", `${name} was given up: ${error.message}`)),
      },
      disturbances: ({ name }) => ({
        slowdown: () => (1 + noise.unit() * topology.stepNoise) * this.#injector.slowdown(name),
        failure: () => this.#injector.failure(name),
      }),
      tampering: {
        lane: (engine, { name }) => this.#probe(name, engine),
        functions: ({ name }, honest) => ({
          ...honest,
          behaviour: (options, resources) => this.#watch(name, honest.behaviour(options, resources)),
        }),
      },
    });
    this.#sim = this.#house.simulation;
    this.#service = tampering.service?.(this.#house.gateway) ?? this.#house.gateway;
    const struck = (fault: Fault) => this.#struck(fault);
    this.#injector = new Injector(plan.faults, this.#house, this.#clock, struck);
    this.#checks = new Checks(
      topology,
      this.#house.engine.pool,
      this.#readers,
      this.#open,
      this.#injector,
      this.#clock,
      violated,
    );
  }

  play(): RunResult {
    // Requests come once the actors are up.
    this.#sim.at(1, () => {
      for (const reader of this.#readers) {
        if (reader.plan.after === undefined) this.#clock.after(reader.plan.atMs, () => this.#submit(reader));
      }
    });
    const limit = patienceMs(this.#plan);
    while (!this.#failure && this.#left > 0 && this.#sim.step()) {
      if (this.#sim.now > limit + this.#injector.disturbedUntil || this.#history.events > MOST_EVENTS) break;
    }
    const forgotten = this.#readers.filter((reader) => !reader.ended);
    if (!this.#failure && forgotten.length > 0) {
      const which = forgotten.map((reader) => reader.number).join(", ");
      this.#fail(
        new Violation("forgotten", `after ${this.#sim.now.toFixed(0)} ms request ${which} has not ended`),
      );
    }
    this.#settle();
    return this.#result();
  }

  /** Puts the probe before a lane's engine, tampered with or not. */
  #probe(name: string, engine: LaneEngine): LaneEngine {
    const probe = new LaneProbe(name, this.#tampering.engine?.(name, engine, this.#house.engine) ?? engine, {
      violated: (violation) => this.#fail(violation),
      stepped: (actor, ms, rows) => {
        this.#checks.stepped(actor, ms, rows);
        this.#history.add(this.#sim.now, actor, `starts a step of ${ms.toFixed(3)} ms`);
      },
    });
    return this.#tampering.probe?.(name, probe) ?? probe;
  }

  /** Wraps a behaviour, tampered with or not, so that its turns are seen. */
  #watch(name: string, behaviour: Behaviour<AppMessage>): Behaviour<AppMessage> {
    const tampered = this.#tampering.behaviour?.(name, behaviour) ?? behaviour;
    return observed(tampered, (turn) => this.#turned(name, turn));
  }

  #submit(reader: SimulatedReader): void {
    this.#history.add(this.#sim.now, "client", `submits ${reader.number}`);
    // One that is refused at once takes a number too.
    this.#submitted.push(reader);
    this.#open.add(reader);
    this.#shares?.waits(reader);
    reader.submit(this.#service);
  }

  #turned(actor: string, turn: Turn): void {
    this.#history.add(this.#sim.now, actor, describeTurn(turn));
    if (turn.kind !== "message") return;
    const { message } = turn;
    this.#injector.delivered(message.type);
    // After the turn: what the message brings about has been done then.
    for (const request of requestsOf(message)) {
      const reader = this.#readerOf(request);
      if (reader && message.type === "admitted" && message.attempt === 0) this.#waitsNoMore(reader, true);
      if (reader?.stage(message.type)) this.#sim.at(this.#sim.now, () => reader.cancel());
    }
  }

  /** The gateway numbers requests from 1 in the order of their submission. */
  #readerOf(request: number): SimulatedReader | undefined {
    return this.#submitted[request - 1];
  }

  #heard(reader: SimulatedReader): void {
    this.#recovery.heard(reader);
    if (!reader.ended) return;
    this.#left--;
    this.#open.delete(reader);
    this.#waitsNoMore(reader, false);
    this.#history.add(this.#sim.now, "client", `${reader.number} ends: ${reader.outcome}`);
    const wrong = wrongEnding(reader, this.#plan);
    if (wrong) this.#fail(new Violation("ending", wrong));
    for (const next of this.#readers) {
      if (next.plan.after === reader.number) this.#clock.after(next.plan.atMs, () => this.#submit(next));
    }
  }

  #waitsNoMore(reader: SimulatedReader, admitted: boolean): void {
    if (this.#unwaited.has(reader)) return;
    this.#unwaited.add(reader);
    const wrong = this.#shares?.ceases(reader, admitted);
    if (wrong) this.#fail(wrong);
  }

  #struck(fault: Fault): void {
    const actor = fault.actor;
    this.#history.add(this.#sim.now, actor, `FAULT ${JSON.stringify(fault)}`);
    if (fault.kind === "kill") this.#recovery.killed();
  }

  #afterEvent(): void {
    if (!this.#failure) this.#checks.afterEvent();
  }

  #settle(): void {
    if (this.#failure) return;
    this.#runUntil(Math.max(this.#sim.now, this.#injector.disturbedUntil) + SETTLE_MS);
    // Restarts in a row take longer and longer.
    while (!this.#failure && this.#down() && this.#sim.step());
    // A step that was slowed outlasts what slowed it, and only then does its lane read what came meanwhile.
    while (!this.#failure && this.#computing() && this.#history.events <= MOST_EVENTS && this.#sim.step()) {
      if (!this.#computing()) this.#runUntil(this.#sim.now + SETTLE_MS);
    }
    const left = quietAtLast(this.#sim, this.#house.engine.pool, this.#plan.topology);
    if (!this.#failure && left) this.#fail(new Violation("quiescence", left));
  }

  #runUntil(ms: number): void {
    while (!this.#failure && this.#sim.nextEventAt <= ms && this.#sim.step());
  }

  #computing(): boolean {
    return this.#house.engine.pool.sequences.some(({ inStep }) => inStep);
  }

  #down(): boolean {
    return actorNames(this.#plan.topology).some((name) => this.#sim.behaviour(name) === undefined);
  }

  /** The first violation counts; what comes after may follow from it. */
  #fail(violation: Violation): void {
    this.#failure ??= {
      invariant: violation.invariant,
      sentence: violation.message,
      event: this.#history.events,
      atMs: this.#sim.now,
      tail: this.#history.tail(),
    };
  }

  #result(): RunResult {
    return {
      name: this.#plan.name,
      seed: this.#plan.seed,
      failure: this.#failure,
      requests: this.#readers.map(({ outcome, submittedAt, endedAt, received, summary }) => ({
        outcome,
        submittedAt,
        endedAt,
        received,
        summary,
      })),
      resumptions: this.#house.gateway.snapshot().resumptions,
      faults: Object.fromEntries(this.#injector.injected),
      events: this.#history.events,
      checks: this.#checks.made,
      virtualMs: this.#sim.now,
      worstRecoveryMs: this.#recovery.worstMs,
      hash: this.#history.hash,
    };
  }
}
