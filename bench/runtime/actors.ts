import {
  type ActorRef,
  type Behaviour,
  type Context,
  defineProtocol,
  f32s,
  f64,
  type MessageOf,
  u32,
} from "#streamserve/runtime/index.js";

/** The actors that `bench runtime` times: a flood along one edge, and single messages there and back. */

export const protocol = defineProtocol({
  /** To a sender of any kind: begin. `gapMs` lets the other side fall asleep before each message. */
  go: { count: u32, gapMs: f64 },
  /** 64 bytes of payload; a frame takes 16 more. */
  payload: { sentMs: f64, left: f64, a: f64, b: f64, c: f64, d: f64, e: f64, f: f64 },
  ping: { sentMs: f64 },
  pong: { sentMs: f64 },
  tick: {},
  /** What was measured: milliseconds of a flood, or microseconds of each round trip. */
  report: { values: f32s },
});

export type BenchMessage = MessageOf<typeof protocol>;
type BenchContext = Context<BenchMessage>;

/** Tells `consumer` as many payloads as asked for, as fast as the edge takes them. */
export const producer = (): Behaviour<BenchMessage> => ({
  receive(message, ctx) {
    if (message.type !== "go") return;
    const to = ctx.ref("consumer");
    const sentMs = ctx.now();
    for (let left = message.count - 1; left >= 0; left--) {
      ctx.tell(to, { type: "payload", sentMs, left, a: 1, b: 2, c: 3, d: 4, e: 5, f: 6 });
    }
  },
});

/** Reports the time from the first payload's sending to the last one's arrival. */
export const consumer = (): Behaviour<BenchMessage> => ({
  receive(message, ctx) {
    if (message.type !== "payload" || message.left > 0) return;
    ctx.tell(ctx.ref("collector"), { type: "report", values: Float32Array.of(ctx.now() - message.sentMs) });
  },
});

/** Answers asks and tells alike. */
export const echo = (): Behaviour<BenchMessage> => ({
  receive(message, ctx) {
    if (message.type === "ping") ctx.reply({ type: "pong", sentMs: ctx.now() });
  },
});

/** Sends pings one after the other and reports each one's round trip. */
export class Pinger implements Behaviour<BenchMessage> {
  #trips = new Float32Array(0);
  #done = 0;
  #gapMs = 0;
  #sentMs = 0;
  readonly #report: (trips: Float32Array, ctx: BenchContext) => void;
  readonly #asks: boolean;

  /** `asks`: by `ask`, which has a deadline and matches the reply; else by two tells. */
  constructor(asks: boolean, report: (trips: Float32Array, ctx: BenchContext) => void) {
    this.#asks = asks;
    this.#report = report;
  }

  receive(message: BenchMessage, ctx: BenchContext): void {
    if (message.type === "go") {
      this.#trips = new Float32Array(message.count);
      this.#done = 0;
      this.#gapMs = message.gapMs;
      this.#next(ctx);
    } else if (message.type === "tick") {
      this.#send(ctx);
    } else if (message.type === "pong") {
      this.#arrived(ctx);
    }
  }

  #next(ctx: BenchContext): void {
    if (this.#done === this.#trips.length) this.#report(this.#trips, ctx);
    else if (this.#gapMs > 0) ctx.after(this.#gapMs, { type: "tick" });
    else this.#send(ctx);
  }

  #send(ctx: BenchContext): void {
    const to: ActorRef = ctx.ref("echo");
    this.#sentMs = ctx.now();
    const ping = { type: "ping", sentMs: this.#sentMs } as const;
    if (!this.#asks) ctx.tell(to, ping);
    else {
      ctx.ask(to, ping, ASK_TIMEOUT_MS, (reply) => {
        if (typeof reply === "string") throw new Error(`An ask failed: ${reply}.`);
        this.#arrived(ctx);
      });
    }
  }

  #arrived(ctx: BenchContext): void {
    this.#trips[this.#done++] = (ctx.now() - this.#sentMs) * 1000;
    this.#next(ctx);
  }
}

/** A neighbour that takes so long is no neighbour. */
const ASK_TIMEOUT_MS = 5_000;

/** A pinger on a worker thread. */
export const pinger = (options: { readonly asks: boolean }): Behaviour<BenchMessage> =>
  new Pinger(options.asks, (values, ctx) => {
    ctx.tell(ctx.ref("collector"), { type: "report", values });
  });
