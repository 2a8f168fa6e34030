import type { ActorRef, ActorSpec, Behaviour, Deployment, EdgeSpec, Message } from "../actor.js";
import type { LogLevel } from "../actor-core.js";
import { Codec } from "../codec.js";
import { checkDeployment, checkEdges } from "../deployment.js";
import { Directory } from "../directory.js";
import { createDoorbell } from "../doorbell.js";
import { createRing } from "../ring.js";
import { asError, RuntimeError } from "../runtime-error.js";
import { createSlab } from "../slab.js";
import { ActorRecord, Edge } from "./actor-record.js";
import { clockOrigin, clockSince } from "./clock.js";
import { loadBehaviour } from "./loading.js";
import { MainLoop } from "./main-loop.js";
import { type ActorEvent, type ActorSetup, DEFAULT_TUNING, type SlabSetup, type Tuning } from "./setup.js";
import { takeRef } from "./spawning.js";
import { WorkerIncarnation } from "./worker-incarnation.js";

/** What a supervisor reports; `failed` is a death that no restart answers. */
export interface SupervisorListener {
  failed(name: string, error: Error): void;
  restarted(name: string, incarnation: number): void;
  terminated(name: string, restarting: boolean): void;
  log(name: string, level: LogLevel, text: string, fields: Readonly<Record<string, unknown>>): void;
}

export interface SupervisorOptions {
  readonly behaviours?: Readonly<Record<string, Behaviour<Message>>>;
  readonly tuning?: Partial<Tuning>;
  readonly tracing?: boolean;
}

/** Starts actors and answers their deaths: restarts within their policy, then the parent's failure. */
export class Supervisor {
  readonly records = new Map<ActorRef, ActorRecord>();
  readonly directory = new Directory();
  readonly main = new MainLoop();
  readonly now: () => number;
  private readonly origin = clockOrigin();
  private readonly nextRef = new SharedArrayBuffer(4);
  private readonly slabs: readonly SlabSetup[];
  private readonly codec: Codec;
  private readonly tuning: Tuning;
  /** All block edges that lead anywhere, for the check of spawned ones. */
  private edges: readonly EdgeSpec[];
  private readonly waiting = new Map<ActorRecord, (error: Error | undefined) => void>();
  private stopping = false;
  tracing: boolean;
  restarts = 0;
  /** Frames found in the mailboxes of actors that ended. */
  private leftLetters = 0;

  constructor(
    private readonly deployment: Deployment,
    private readonly options: SupervisorOptions,
    private readonly listener: SupervisorListener,
  ) {
    checkDeployment(deployment);
    this.codec = new Codec(deployment.protocol);
    this.now = clockSince(this.origin);
    this.tuning = { ...DEFAULT_TUNING, ...options.tuning };
    this.tracing = options.tracing ?? false;
    this.edges = deployment.edges;
    for (const spec of deployment.actors) this.add(takeRef(this.nextRef), spec, undefined, createDoorbell());
    this.slabs = deployment.slabs.map(({ owner, bytes }) => ({
      owner: this.directory.ref(owner),
      buffer: createSlab(bytes),
    }));
    for (const edge of deployment.edges) this.connect(edge, createRing(edge.bytes));
  }

  /** Starts all actors; rejects with what the first of them to fail failed with. */
  async start(): Promise<void> {
    const ready = [...this.records.values()].map(
      (record) =>
        new Promise<void>((resolve, reject) => {
          this.waiting.set(record, (error) => (error === undefined ? resolve() : reject(error)));
          this.launch(record);
        }),
    );
    await Promise.all(ready);
  }

  record(name: string): ActorRecord {
    return this.records.get(this.directory.ref(name))!;
  }

  countDeadLetters(): number {
    let letters = 0;
    for (const record of this.records.values()) {
      letters += record.status.deadLetters;
      // A sender that looked before its receiver ended may have written after it.
      if (record.phase === "ended") this.closeMailbox(record);
    }
    return letters + this.leftLetters;
  }

  /** No actor is started again from now on. */
  quiesce(): void {
    this.stopping = true;
    for (const record of this.records.values()) {
      clearTimeout(record.restartTimer);
      if (record.phase === "waiting") this.end(record);
    }
  }

  /** Ends an actor after its mailbox has been drained, for good unless it is to be `reloaded`. */
  stop(record: ActorRecord, reloading = false): void {
    if (record.phase !== "running" && record.phase !== "starting") {
      if (record.phase === "waiting") this.end(record);
      return;
    }
    record.phase = "ending";
    record.reloading = reloading;
    record.life?.stop();
  }

  private add(
    ref: ActorRef,
    spec: ActorSpec,
    parent: ActorRecord | undefined,
    bell: SharedArrayBuffer,
  ): ActorRecord {
    // Actors of the main thread share its doorbell.
    const own = spec.thread === "main" ? this.main.bell : bell;
    const record = new ActorRecord(ref, spec, parent, own);
    record.status.tracing = this.tracing;
    this.records.set(ref, record);
    this.directory.add(spec.name, ref);
    parent?.children.add(record);
    return record;
  }

  private connect({ from, to, whenFull }: EdgeSpec, ring: SharedArrayBuffer): void {
    new Edge(this.record(from), this.record(to), whenFull, ring);
  }

  private launch(record: ActorRecord): void {
    record.phase = "starting";
    const setup = this.setupOf(record);
    const emit = (event: ActorEvent) => this.take(record, event);
    if (record.spec.thread !== "main") {
      this.follow(record, () => new WorkerIncarnation(setup, emit));
      return;
    }
    const given = this.options.behaviours?.[record.spec.name];
    const behaviour = given === undefined ? loadBehaviour(record.spec, record.incarnation) : given;
    Promise.resolve(behaviour).then(
      (loaded) => this.follow(record, () => this.main.start(setup, loaded, this.codec, emit)),
      (error: unknown) => this.died(record, asError(error)),
    );
  }

  private follow(record: ActorRecord, start: () => NonNullable<ActorRecord["life"]>): void {
    // It may have been stopped while its module was loading.
    if (record.phase !== "starting") {
      this.end(record);
      return;
    }
    const life = start();
    record.life = life;
    void life.ended.then((error) => {
      record.life = undefined;
      this.died(record, error);
    });
  }

  private setupOf(record: ActorRecord): ActorSetup {
    return {
      ref: record.ref,
      incarnation: record.incarnation,
      spec: record.spec,
      protocolRef: this.deployment.protocolRef,
      names: this.directory.entries(),
      incoming: record.incoming.map((edge) => edge.endAtReceiver()),
      outgoing: record.outgoing.map((edge) => edge.endAtSender()),
      slabs: this.slabs,
      bell: record.bell,
      status: record.statusBuffer,
      controls: record.status.controls,
      traceRing: record.traceRing,
      nextRef: this.nextRef,
      clockOrigin: this.origin,
      tuning: this.tuning,
    };
  }

  private take(record: ActorRecord, event: ActorEvent): void {
    switch (event.kind) {
      case "ready":
        if (record.phase === "starting") record.phase = "running";
        this.settle(record, undefined);
        if (record.incarnation > 0) this.listener.restarted(record.spec.name, record.incarnation);
        break;
      case "watch":
        this.watch(record, event.ref);
        break;
      case "stop": {
        const target = this.records.get(event.ref);
        if (target !== undefined) this.stop(target);
        break;
      }
      case "spawn":
        this.spawn(record, event.order);
        break;
      case "log":
        this.listener.log(record.spec.name, event.level, event.text, event.fields);
        break;
      case "failed":
      case "stopped":
        // The end of the incarnation follows.
        break;
    }
  }

  private watch(watcher: ActorRecord, ref: ActorRef): void {
    const target = this.records.get(ref);
    if (target === undefined || target.phase === "ended") {
      watcher.life?.notice({ ref, restarting: false, publishedEnd: undefined });
    } else target.watchers.add(watcher);
  }

  private spawn(parent: ActorRecord, order: Extract<ActorEvent, { kind: "spawn" }>["order"]): void {
    const { ref, spec, bell, rings } = order;
    const edges = spec.edges ?? [];
    if (parent.phase === "ended" || this.stopping) return;
    try {
      this.directory.checkFree(spec.name);
      const specOf = (name: string) =>
        name === spec.name ? spec : this.directory.has(name) ? this.record(name).spec : undefined;
      checkEdges([...this.edges, ...edges], specOf);
    } catch (error) {
      this.listener.failed(spec.name, asError(error));
      parent.life?.notice({ ref, restarting: false, publishedEnd: undefined });
      return;
    }
    this.edges = [...this.edges, ...edges];
    const child = this.add(ref, spec, parent, bell);
    for (const [index, edge] of edges.entries()) this.connect(edge, rings[index]!);
    for (const other of this.records.values()) {
      if (other === child || other === parent) continue;
      const incoming = other.incoming.filter(({ from }) => from === child);
      const outgoing = other.outgoing.filter(({ to }) => to === child);
      if (incoming.length + outgoing.length === 0) continue;
      other.life?.attach({
        name: spec.name,
        ref,
        incoming: incoming.map((edge) => edge.endAtReceiver()),
        outgoing: outgoing.map((edge) => edge.endAtSender()),
      });
    }
    this.launch(child);
  }

  private settle(record: ActorRecord, error: Error | undefined): void {
    this.waiting.get(record)?.(error);
    this.waiting.delete(record);
  }

  /** An incarnation has ended; `error` is undefined if it was stopped or killed. */
  private died(record: ActorRecord, error: Error | undefined): void {
    if (record.phase === "ended") return;
    for (const child of record.children) this.kill(child);
    record.children.clear();
    if (this.waiting.has(record)) {
      this.settle(record, error ?? new RuntimeError("actor_failed", `"${record.spec.name}" ended early.`));
      this.end(record);
      return;
    }
    const planned = record.phase === "ending";
    if (this.stopping || (planned && !record.reloading)) {
      this.end(record);
      return;
    }
    const delay = planned ? 0 : record.restarts.died(this.now());
    record.reloading = false;
    if (delay === undefined) {
      this.end(record);
      this.fail(record, error);
      return;
    }
    record.phase = "waiting";
    record.wakeNeighbours();
    this.announce(record, true);
    record.restartTimer = setTimeout(() => {
      record.incarnation++;
      this.restarts++;
      this.launch(record);
    }, delay);
  }

  /** The parent of an actor that can't be restarted dies too; above the top there is the listener. */
  private fail(record: ActorRecord, cause: Error | undefined): void {
    const { parent } = record;
    const error = new RuntimeError(
      "actor_failed",
      `"${record.spec.name}" died too often: ${cause?.message ?? "it was killed"}.`,
      { cause },
    );
    if (parent === undefined) this.listener.failed(record.spec.name, error);
    else if (parent.life !== undefined) parent.life.kill();
  }

  /** Ends an actor at once, for good. */
  private kill(record: ActorRecord): void {
    clearTimeout(record.restartTimer);
    const { life } = record;
    record.phase = "ending";
    record.reloading = false;
    if (life === undefined) this.end(record);
    else life.kill();
  }

  private end(record: ActorRecord): void {
    if (record.phase === "ended") return;
    record.phase = "ended";
    clearTimeout(record.restartTimer);
    record.status.state = "stopped";
    for (const child of record.children) this.kill(child);
    this.closeMailbox(record);
    record.wakeNeighbours();
    this.announce(record, false);
    if (record.parent !== undefined) this.forget(record);
  }

  /** A spawned actor leaves nothing behind and its name is free again; a deployed one stays to be looked up. */
  private forget(record: ActorRecord): void {
    this.leftLetters += record.status.deadLetters;
    for (const edge of [...record.incoming, ...record.outgoing]) edge.detach();
    record.parent?.children.delete(record);
    this.directory.remove(record.ref);
    this.records.delete(record.ref);
    this.edges = this.edges.filter(({ from, to }) => from !== record.spec.name && to !== record.spec.name);
  }

  private closeMailbox(record: ActorRecord): void {
    for (const edge of record.incoming) this.leftLetters += edge.close();
  }

  private announce(record: ActorRecord, restarting: boolean): void {
    const { ref } = record;
    this.listener.terminated(record.spec.name, restarting);
    const listeners = new Set([...record.watchers, ...record.incoming.map(({ from }) => from)]);
    for (const other of listeners) {
      if (other === record) continue;
      const publishedEnd = record.outgoing.find(({ to }) => to === other)?.publishedEnd;
      other.life?.notice({ ref, restarting, publishedEnd });
    }
  }
}
