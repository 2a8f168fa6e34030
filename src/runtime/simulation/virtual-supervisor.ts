import type { ActorRef, ActorSpec, Deployment, Message } from "../actor.js";
import { Codec } from "../codec.js";
import { checkDeployment, checkEdges } from "../deployment.js";
import { Directory } from "../directory.js";
import { asError, RuntimeError } from "../runtime-error.js";
import type { SimulationOptions } from "./options.js";
import { VirtualActor } from "./virtual-actor.js";
import { VirtualEdge } from "./virtual-edge.js";
import { VirtualLife } from "./virtual-life.js";
import { VirtualScheduler } from "./virtual-scheduler.js";
import { VirtualSlabs } from "./virtual-slabs.js";

const START_MS = 40;

/** Starts simulated actors and answers their deaths as the supervisor of threads does. */
export class VirtualSupervisor {
  readonly scheduler: VirtualScheduler;
  readonly directory = new Directory();
  readonly slabs: VirtualSlabs;
  private readonly actors: VirtualActor[] = [];
  private readonly codec: Codec;
  deadLetters = 0;
  restarts = 0;

  constructor(
    deployment: Deployment,
    readonly options: SimulationOptions,
  ) {
    checkDeployment(deployment);
    this.codec = new Codec(deployment.protocol);
    this.slabs = new VirtualSlabs(deployment.slabs);
    this.scheduler = new VirtualScheduler(options, {
      died: (actor, thrown) => {
        const error = asError(thrown);
        options.died?.(actor.spec.name, error);
        this.died(actor, error);
      },
      stopped: (actor) => this.end(actor),
    });
    for (const spec of deployment.actors) this.add(spec, undefined);
    for (const edge of deployment.edges) new VirtualEdge(edge, this.actor(edge.from), this.actor(edge.to));
    for (const actor of this.actors) this.launch(actor, 0);
  }

  actor(name: string): VirtualActor {
    return this.actors[this.directory.ref(name)]!;
  }

  edge(from: string, to: string): VirtualEdge {
    const edge = this.actor(from).outgoing.find(({ spec }) => spec.to === to);
    if (edge === undefined)
      throw new RuntimeError("unknown_edge", `No edge leads from "${from}" to "${to}".`);
    return edge;
  }

  private add(spec: ActorSpec, parent: VirtualActor | undefined): VirtualActor {
    const actor = new VirtualActor(this.actors.length as ActorRef, spec, parent);
    this.actors.push(actor);
    this.directory.add(spec.name, actor.ref);
    parent?.children.add(actor);
    return actor;
  }

  private checkSpawn(spec: ActorSpec): Error | undefined {
    this.directory.checkFree(spec.name);
    try {
      const living = this.actors.filter(({ phase }) => phase !== "ended");
      const edges = living.flatMap(({ outgoing }) =>
        outgoing.filter(({ to }) => to.phase !== "ended").map((edge) => edge.spec),
      );
      const specOf = (name: string) =>
        name === spec.name ? spec : this.directory.has(name) ? this.actor(name).spec : undefined;
      checkEdges([...edges, ...(spec.edges ?? [])], specOf);
      return undefined;
    } catch (error) {
      return asError(error);
    }
  }

  private launch(actor: VirtualActor, afterMs: number): void {
    actor.phase = "waiting";
    actor.launch = this.scheduler.at(this.scheduler.now + afterMs, () => {
      const { now } = this.scheduler;
      if (now < actor.downUntil) {
        this.launch(actor, actor.downUntil - now);
        return;
      }
      this.scheduler.attempt(actor, () => {
        const functions = this.options.functions(actor.spec);
        // Options and resources are what the deployment pairs with the factory; no type can check that.
        const resources = functions.resources?.(actor.spec.options as never, actor.incarnation);
        const behaviour = functions.behaviour(actor.spec.options as never, resources as never);
        const life = new VirtualLife(this, actor, behaviour);
        actor.life = life;
        actor.phase = "running";
        life.turn(() => life.core.start());
      });
      this.scheduler.schedule(actor);
    });
  }

  payloadBytes(message: Message): number {
    return this.codec.sizeOf(this.codec.typeOf(message), message);
  }

  copy(message: Message): Message {
    return this.options.roundTrip === true ? this.codec.roundTrip(message) : message;
  }

  watch(watcher: VirtualActor, ref: ActorRef): void {
    const target = this.actors[ref];
    if (target === undefined || target.phase === "ended") this.tellDeath(watcher, ref, false, 0);
    else target.watchers.add(watcher);
  }

  spawn(parent: VirtualActor, spec: ActorSpec): ActorRef {
    const failed = this.checkSpawn(spec);
    const child = this.add(spec, parent);
    if (failed !== undefined) {
      child.phase = "ended";
      this.directory.remove(child.ref);
      this.report(spec.name, failed);
      this.tellDeath(parent, child.ref, false, 0);
      return child.ref;
    }
    for (const edge of spec.edges ?? []) new VirtualEdge(edge, this.actor(edge.from), this.actor(edge.to));
    this.launch(child, this.options.startMs ?? START_MS);
    return child.ref;
  }

  stopActor(ref: ActorRef): void {
    const actor = this.actors[ref];
    if (actor === undefined || actor.phase === "ended") return;
    if (actor.life === undefined) this.end(actor);
    else {
      actor.phase = "ending";
      this.scheduler.schedule(actor);
    }
  }

  died(actor: VirtualActor, error: Error | undefined): void {
    if (actor.phase === "ended") return;
    const ending = actor.phase === "ending";
    this.endLife(actor);
    for (const child of actor.children) this.end(child);
    actor.children.clear();
    const delay = ending ? undefined : actor.restarts.died(this.scheduler.now);
    if (delay === undefined) {
      this.end(actor);
      if (!ending) this.fail(actor, error);
      return;
    }
    this.scheduler.cancel(actor.launch);
    this.announce(actor, true);
    actor.incarnation++;
    this.restarts++;
    this.launch(actor, delay + (this.options.startMs ?? START_MS));
  }

  private fail(actor: VirtualActor, cause: Error | undefined): void {
    if (actor.parent !== undefined) {
      this.died(actor.parent, cause);
      return;
    }
    const reason = cause?.message ?? "it was killed";
    this.report(
      actor.spec.name,
      new RuntimeError("actor_failed", `"${actor.spec.name}" died too often: ${reason}.`, { cause }),
    );
  }

  private report(name: string, error: Error): void {
    if (this.options.failed === undefined) throw error;
    this.options.failed(name, error);
  }

  private endLife(actor: VirtualActor): void {
    actor.life?.close();
    actor.life = undefined;
    actor.notices.length = 0;
    this.scheduler.cancel(actor.next);
    actor.next = undefined;
  }

  private end(actor: VirtualActor): void {
    if (actor.phase === "ended") return;
    this.endLife(actor);
    actor.phase = "ended";
    this.scheduler.cancel(actor.launch);
    for (const child of actor.children) this.end(child);
    for (const edge of actor.incoming) {
      this.deadLetters += edge.clear();
      edge.senderWaits = true;
      this.scheduler.wakeSender(edge);
    }
    this.announce(actor, false);
    if (actor.parent !== undefined) this.directory.remove(actor.ref);
  }

  private announce(actor: VirtualActor, restarting: boolean): void {
    const listeners = new Set([...actor.watchers, ...actor.incoming.map(({ from }) => from)]);
    for (const other of listeners) {
      const unread = actor.outgoing.find(({ to }) => to === other)?.length ?? 0;
      if (other !== actor) this.tellDeath(other, actor.ref, restarting, unread);
    }
  }

  private tellDeath(to: VirtualActor, ref: ActorRef, restarting: boolean, unread: number): void {
    const { incarnation } = to;
    this.scheduler.at(this.scheduler.now + this.scheduler.messageDelay(), () => {
      if (to.life === undefined || to.incarnation !== incarnation) return;
      to.notices.push({ ref, restarting, unread });
      this.scheduler.schedule(to);
    });
  }
}
