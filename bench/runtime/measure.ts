import {
  type ActorSpec,
  ActorSystem,
  type Behaviour,
  type Context,
  type EdgeSpec,
  type ExportRef,
} from "#streamserve/runtime/index.js";
import { type BenchMessage, Pinger, protocol } from "./actors.js";

const exported = (name: string): ExportRef => ({ module: new URL("actors.js", import.meta.url).href, name });
const worker = (name: string, options: unknown = {}): ActorSpec => ({
  name,
  behaviour: exported(name),
  options,
});
const edge = (from: string, to: string, whenFull: EdgeSpec["whenFull"], bytes: number): EdgeSpec => ({
  from,
  to,
  whenFull,
  bytes,
});
/** Room for the longest report: 64k floats would need more, and no measurement has so many. */
const SMALL_EDGE_BYTES = 1 << 18;
const COLLECTOR: ActorSpec = { name: "collector", behaviour: exported("echo"), options: {}, thread: "main" };

/** Milliseconds in which `count` messages of 64 bytes pass along one edge of `ringBytes`, thread to thread. */
export async function timeFlood(count: number, ringBytes: number): Promise<number> {
  const [elapsedMs] = await collect(
    "producer",
    { type: "go", count, gapMs: 0 },
    [worker("producer"), worker("consumer")],
    [
      edge("collector", "producer", "refuse", SMALL_EDGE_BYTES),
      edge("producer", "consumer", "block", ringBytes),
      edge("consumer", "collector", "refuse", SMALL_EDGE_BYTES),
    ],
  );
  return elapsedMs!;
}

export interface RoundTrips {
  readonly count: number;
  readonly asks: boolean;
  /** Rest before each message, so that the other side sleeps; 0: none. */
  readonly gapMs: number;
  /** How long an actor with nothing to do looks again before it sleeps; undefined: the product's default. */
  readonly spinUs?: number;
}

/** Microseconds of each round trip between two worker threads. */
export function timeRoundTrips({ count, asks, gapMs, spinUs }: RoundTrips): Promise<number[]> {
  return collect(
    "pinger",
    { type: "go", count, gapMs },
    [worker("pinger", { asks }), worker("echo")],
    [
      edge("collector", "pinger", "refuse", SMALL_EDGE_BYTES),
      edge("pinger", "collector", "refuse", SMALL_EDGE_BYTES),
      edge("pinger", "echo", "refuse", SMALL_EDGE_BYTES),
      edge("echo", "pinger", "refuse", SMALL_EDGE_BYTES),
    ],
    spinUs,
  );
}

/** Microseconds of each round trip from the main thread, which sleeps in its event loop, to a worker and back. */
export function timeMainRoundTrips(count: number, gapMs: number): Promise<number[]> {
  const edges = [
    edge("collector", "echo", "refuse", SMALL_EDGE_BYTES),
    edge("echo", "collector", "refuse", SMALL_EDGE_BYTES),
  ];
  return runSystem([worker("echo")], edges, undefined, (report) => {
    const pinger = new Pinger(false, (trips) => report(trips));
    return {
      begin: (ctx) => pinger.receive({ type: "go", count, gapMs }, ctx),
      receive: (message, ctx) => pinger.receive(message, ctx),
    };
  });
}

/** Starts a system, sends `order` to an actor, and resolves to the values of the report that comes back. */
function collect(
  to: string,
  order: BenchMessage,
  actors: readonly ActorSpec[],
  edges: readonly EdgeSpec[],
  spinUs?: number,
): Promise<number[]> {
  return runSystem(actors, edges, spinUs, (report) => ({
    begin: (ctx) => ctx.tell(ctx.ref(to), order),
    receive: (message) => message.type === "report" && report(message.values),
  }));
}

interface Collector {
  /** Called once every actor has started. */
  begin(ctx: Context<BenchMessage>): void;
  receive(message: BenchMessage, ctx: Context<BenchMessage>): void;
}

/** Runs a system until its collector, on the main thread, reports; resolves to what it reported. */
async function runSystem(
  actors: readonly ActorSpec[],
  edges: readonly EdgeSpec[],
  spinUs: number | undefined,
  makeCollector: (report: (values: Float32Array) => void) => Collector,
): Promise<number[]> {
  let report: (values: Float32Array) => void = () => {};
  let fail: (error: Error) => void = () => {};
  const reported = new Promise<number[]>((resolve, reject) => {
    report = (values) => resolve([...values]);
    fail = reject;
  });
  const collector = makeCollector((values) => report(values));
  let allStarted = false;
  let begun = false;
  const behaviour: Behaviour<BenchMessage> = {
    started: (ctx) => {
      ctx.after(START_POLL_MS, { type: "tick" });
    },
    receive: (message, ctx) => {
      if (begun) collector.receive(message, ctx);
      else if (!allStarted) ctx.after(START_POLL_MS, { type: "tick" });
      else {
        begun = true;
        collector.begin(ctx);
      }
    },
  };
  const system = await ActorSystem.start<BenchMessage>(
    { protocol, protocolRef: exported("protocol"), actors: [COLLECTOR, ...actors], edges, slabs: [] },
    { behaviours: { collector: behaviour }, ...(spinUs === undefined ? {} : { tuning: { spinUs } }) },
  );
  system.on("failed", ({ error }) => fail(error));
  allStarted = true;
  try {
    return await reported;
  } finally {
    await system.stop({ drainMs: 0 });
  }
}

/** How often the collector looks whether all actors have started. */
const START_POLL_MS = 1;
