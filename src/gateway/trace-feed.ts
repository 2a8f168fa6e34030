import type { ActorView, ServingCore } from "./core.js";
import type { Exchange } from "./exchange.js";

/** How often spans are taken from the trace rings: these hold far more than a lane writes meanwhile. */
const SPANS_MS = 100;
/** How often mailboxes, lanes and KV are looked at, in turns of `SPANS_MS`. */
const TURNS_PER_STATE = 5;
/** Spans of an event at most: the newest. A page can't draw more in its time anyway. */
const MOST_SPANS = 4_000;

interface Listener {
  event(text: string): void;
  end(): void;
}

/**
 * Streams what the actors do to any number of watchers. The first turns tracing on, the last turns it back to
 * what it was. A watcher that doesn't keep up misses events; it never holds up an actor or memory.
 */
export class TraceFeed {
  readonly #core: ServingCore;
  readonly #always: boolean;
  readonly #listeners = new Set<Listener>();
  #timer: NodeJS.Timeout | undefined;
  #turn = 0;

  /** `always`: tracing is on without watchers too. */
  constructor(core: ServingCore, always: boolean) {
    this.#core = core;
    this.#always = always;
  }

  /** GET /v1/trace: server-sent events until the client leaves. */
  serve({ response, request }: Exchange): Promise<void> {
    response.writeHead(200, {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
    });
    response.flushHeaders();
    if (request.method === "HEAD") {
      response.end();
      return Promise.resolve();
    }
    let ready = true;
    response.on("drain", () => {
      ready = true;
    });
    const listener: Listener = {
      event: (text) => {
        if (ready) ready = response.write(text);
      },
      end: () => response.end(),
    };
    this.#add(listener);
    return new Promise((resolve) => {
      response.once("close", () => {
        this.#remove(listener);
        resolve();
      });
    });
  }

  /** Ends all streams. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const listener of this.#listeners) listener.end();
    this.#listeners.clear();
  }

  get #actors(): ActorView {
    return this.#core.actors;
  }

  #add(listener: Listener): void {
    this.#listeners.add(listener);
    if (this.#timer !== undefined) return;
    // What lies in the rings from before is not news.
    this.#actors.traces();
    this.#actors.setTracing(true);
    this.#timer = setInterval(() => this.#poll(), SPANS_MS);
  }

  #remove(listener: Listener): void {
    if (!this.#listeners.delete(listener) || this.#listeners.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#actors.setTracing(this.#always);
  }

  #poll(): void {
    const spans = this.#actors.traces().slice(-MOST_SPANS);
    this.#emit("spans", {
      now: this.#actors.now(),
      spans: spans.map(({ actor, name, start, end, request, value }) => [
        actor,
        name,
        start,
        end,
        request,
        value,
      ]),
    });
    if (this.#turn++ % TURNS_PER_STATE !== 0) return;
    this.#actors.inspect().then(
      (actors) =>
        this.#emit("state", { now: this.#actors.now(), actors, service: this.#core.service.snapshot() }),
      // Actors that are being stopped can't be inspected; the next turn tells.
      () => {},
    );
  }

  #emit(type: string, data: object): void {
    const event = `event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;
    for (const listener of this.#listeners) listener.event(event);
  }
}
