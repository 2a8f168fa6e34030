import type { ServerResponse } from "node:http";

/**
 * Server-sent events with back-pressure: `event` says when the reader's socket has room again, and a socket
 * without room for `stallMs` is given up.
 */
export class EventStream {
  readonly #response: ServerResponse;
  readonly #stallMs: number;
  readonly #stalled: () => void;
  #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(response: ServerResponse, stallMs: number, stalled: () => void) {
    this.#response = response;
    this.#stallMs = stallMs;
    this.#stalled = stalled;
    response.on("drain", () => this.#drained());
    response.on("close", () => clearTimeout(this.#timer));
  }

  /** Sends one event (headers too, if it is the first); calls `flushed` once the socket has room for more. */
  event(data: string, flushed: () => void = () => {}): void {
    if (this.#response.destroyed || this.#response.writableEnded) return;
    if (!this.#response.headersSent) {
      this.#response.writeHead(200, {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
      });
    }
    if (this.#response.write(`data: ${data}\n\n`) && this.#waiting.length === 0) {
      flushed();
      return;
    }
    this.#waiting.push(flushed);
    this.#timer ??= setTimeout(this.#stalled, this.#stallMs);
  }

  end(): void {
    this.#response.end();
  }

  #drained(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const flushed of this.#waiting.splice(0)) flushed();
  }
}
