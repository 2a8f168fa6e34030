import type { ActorSpec, Behaviour, Context, Deployment, EdgeSpec, Message } from "../dist/runtime/actor.js";
import type { MessageOf } from "../dist/runtime/schema.js";

/** What the runtime's tests share: deployments of the actors in fixtures/, and a probe on the main thread. */

const FIXTURE = new URL("./fixtures/runtime-actors.mjs", import.meta.url).href;

interface Fixture {
  readonly protocol: Deployment["protocol"];
  readonly [name: string]: unknown;
}

export const fixture = (await import(FIXTURE)) as Fixture;

export type TestMessage = Message & Readonly<Record<string, unknown>>;
export type ProtocolMessage = MessageOf<Deployment["protocol"]>;

export const exported = (name: string) => ({ module: FIXTURE, name });

export function actor(
  name: string,
  behaviour: string,
  options: unknown = {},
  more: Partial<ActorSpec> = {},
): ActorSpec {
  return { name, behaviour: exported(behaviour), options, ...more };
}

export function edge(
  from: string,
  to: string,
  whenFull: EdgeSpec["whenFull"] = "refuse",
  bytes = 4096,
): EdgeSpec {
  return { from, to, whenFull, bytes };
}

export function deploy(
  actors: readonly ActorSpec[],
  edges: readonly EdgeSpec[],
  slabs: Deployment["slabs"] = [],
): Deployment {
  return { protocol: fixture.protocol, protocolRef: exported("protocol"), actors, edges, slabs };
}

export const PROBE: ActorSpec = { name: "probe", options: {}, thread: "main" };

/** An actor of the main thread that keeps what it gets, for a test to await. */
export class Probe implements Behaviour<TestMessage> {
  readonly got: TestMessage[] = [];
  ctx!: Context<TestMessage>;
  private waiting: { until: () => boolean; resolve: () => void }[] = [];

  started(ctx: Context<TestMessage>): void {
    this.ctx = ctx;
  }

  receive(message: TestMessage): void {
    this.got.push(message);
    this.settle();
  }

  terminated(ref: Parameters<Context<TestMessage>["nameOf"]>[0], restarting: boolean): void {
    this.receive({ type: "terminated", who: this.ctx.nameOf(ref), restarting });
  }

  tell(name: string, message: TestMessage): boolean {
    return this.ctx.tell(this.ctx.ref(name), message);
  }

  ask(name: string, message: TestMessage, timeoutMs = 10_000): Promise<TestMessage | string> {
    return new Promise((resolve) => this.ctx.ask(this.ctx.ref(name), message, timeoutMs, resolve));
  }

  /** The first message of a type, once it has come; it is taken out. */
  async next(type: string): Promise<TestMessage> {
    await this.when(() => this.got.some((message) => message.type === type));
    const index = this.got.findIndex((message) => message.type === type);
    return this.got.splice(index, 1)[0]!;
  }

  when(until: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push({ until, resolve });
      this.settle();
    });
  }

  private settle(): void {
    const ready = this.waiting.filter(({ until }) => until());
    this.waiting = this.waiting.filter((one) => !ready.includes(one));
    for (const { resolve } of ready) resolve();
  }
}
