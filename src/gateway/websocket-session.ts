import type { WebSocket } from "ws";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "./core.js";
import { asStreamServeError } from "./http-errors.js";
import { type ClientMessage, type Ends, errorMessage, idOf, readMessage } from "./websocket-messages.js";
import { type RequestSocket, WebSocketRequest } from "./websocket-request.js";

/** Close codes; those under 4000 are RFC 6455's. */
export const CLOSE = { goingAway: 1001, binary: 1003, violations: 1008, slowReader: 4408 } as const;

/** Wrong messages in a row, with no generation started between them, before a socket is closed. */
const MOST_VIOLATIONS = 64;
/** Ids of ended requests that are remembered: a `credit` or `cancel` that crossed their end is no error. */
const ENDED_KEPT = 1024;
/**
 * A socket with so many bytes waiting to leave is not listened to until half have left: a client that asks without
 * reading answers would fill memory. More than all its streams' credit windows hold.
 */
const MOST_UNSENT_BYTES = 4 << 20;
/** A peer that answers no ping within this is gone. */
const PING_MS = 30_000;

/** One WebSocket and its requests. */
export class WebSocketSession implements RequestSocket {
  readonly #core: ServingCore;
  readonly #server: Config["server"];
  readonly #socket: WebSocket;
  readonly #requests = new Map<string, WebSocketRequest>();
  readonly #ended = new Set<string>();
  readonly #ping: NodeJS.Timeout;
  #violations = 0;
  #closing = false;
  #answered = true;
  #unflushed = 0;
  #stall: NodeJS.Timeout | undefined;

  constructor(core: ServingCore, server: Config["server"], socket: WebSocket) {
    this.#core = core;
    this.#server = server;
    this.#socket = socket;
    socket.on("message", (data: Buffer, binary: boolean) => this.#receive(data, binary));
    socket.on("pong", () => {
      this.#answered = true;
    });
    // ws closes the socket itself with the code of RFC 6455; `close` follows.
    socket.on("error", () => {});
    socket.on("close", () => this.#closed());
    this.#ping = setInterval(() => this.#checkAlive(), PING_MS);
    this.#ping.unref();
  }

  send(message: object, flushed: () => void = () => {}): void {
    this.#unflushed++;
    this.#stall ??= setTimeout(() => this.#stalled(), this.#server.stallMs);
    this.#socket.send(JSON.stringify(message), () => {
      this.#unflushed--;
      if (this.#socket.isPaused && this.#socket.bufferedAmount < MOST_UNSENT_BYTES / 2) this.#socket.resume();
      clearTimeout(this.#stall);
      this.#stall = this.#unflushed > 0 ? setTimeout(() => this.#stalled(), this.#server.stallMs) : undefined;
      flushed();
    });
    if (this.#socket.bufferedAmount > MOST_UNSENT_BYTES) this.#socket.pause();
  }

  ended(id: string, error?: StreamServeError): void {
    this.#forget(id);
    if (error !== undefined) this.send(errorMessage(error, "request", id));
  }

  /** Ends all requests and the socket. */
  close(code: number, reason: string): void {
    this.#closing = true;
    this.#abandonAll();
    this.#socket.close(code, reason);
  }

  /** Ends the socket without a word; ws would wait half a minute for the peer's. */
  cut(): void {
    this.#socket.terminate();
  }

  #receive(data: Buffer, binary: boolean): void {
    if (this.#closing) return;
    if (binary) {
      this.#fatal(
        new StreamServeError("invalid_message", "Messages are JSON text; this one was binary."),
        CLOSE.binary,
      );
      return;
    }
    const text = data.toString("utf8");
    try {
      this.#dispatch(readMessage(text));
    } catch (thrown) {
      this.#violation(asStreamServeError(thrown), idOf(text));
    }
  }

  #dispatch(message: ClientMessage): void {
    if (message.type === "generate") {
      this.#generate(new WebSocketRequest(this.#core, this.#server, this, message), message.id);
      return;
    }
    const request = this.#requests.get(message.id);
    if (request === undefined) {
      if (this.#ended.has(message.id)) return;
      throw new StreamServeError("unknown_request", `No request '${message.id}' was started on this socket.`);
    }
    if (message.type === "credit") {
      request.credit(message.tokens);
      return;
    }
    request.abandon();
    this.ended(message.id, new StreamServeError("cancelled", "The request was cancelled."));
  }

  #generate(request: WebSocketRequest, id: string): void {
    if (this.#requests.has(id)) {
      throw new StreamServeError(
        "duplicate_request",
        `A request '${id}' is open on this socket: choose another id.`,
      );
    }
    const { maxRequestsPerSocket } = this.#server;
    if (this.#requests.size >= maxRequestsPerSocket) {
      const message = `${maxRequestsPerSocket} requests are open on this socket: wait for one to end.`;
      this.send(
        errorMessage(new StreamServeError("overloaded", message, { maxRequestsPerSocket }), "request", id),
      );
      return;
    }
    this.#violations = 0;
    this.#ended.delete(id);
    this.#requests.set(id, request);
    void request.start();
  }

  /** Answers a wrong message. What it ends: docs/protocol.md. */
  #violation(error: StreamServeError, id: string | undefined): void {
    if (++this.#violations > MOST_VIOLATIONS) {
      const message = `More than ${MOST_VIOLATIONS} wrong messages in a row; the last: ${error.message}`;
      this.#fatal(new StreamServeError(error.code, message), CLOSE.violations);
      return;
    }
    const open = id === undefined ? undefined : this.#requests.get(id);
    let ends: Ends = "nothing";
    if (id !== undefined && open !== undefined && error.code === "invalid_credit") {
      // The client's count is wrong: it would wait for ever.
      open.abandon();
      this.#forget(id);
      ends = "request";
    } else if (id !== undefined && open === undefined && !UNKNOWN.has(error.code)) {
      // The request that the message meant to start will not be.
      this.#forget(id);
      ends = "request";
    }
    this.send(errorMessage(error, ends, id));
  }

  #fatal(error: StreamServeError, code: number): void {
    this.send(errorMessage(error, "socket", undefined));
    this.close(code, error.code);
  }

  #forget(id: string): void {
    this.#requests.delete(id);
    this.#ended.add(id);
    if (this.#ended.size > ENDED_KEPT) {
      for (const oldest of this.#ended) {
        this.#ended.delete(oldest);
        break;
      }
    }
  }

  #abandonAll(): void {
    for (const request of this.#requests.values()) request.abandon();
    this.#requests.clear();
  }

  #closed(): void {
    clearInterval(this.#ping);
    clearTimeout(this.#stall);
    this.#abandonAll();
  }

  /** Nothing leaves the socket: the peer does not read at all. */
  #stalled(): void {
    // ws ends the connection half a minute later if the peer doesn't even take this.
    this.close(CLOSE.slowReader, "slow_reader");
  }

  #checkAlive(): void {
    if (!this.#answered) {
      this.#socket.terminate();
      return;
    }
    this.#answered = false;
    this.#socket.ping();
  }
}

/** Errors that name a request which never was, or what is not a request at all. */
const UNKNOWN: ReadonlySet<string> = new Set(["unknown_request", "unknown_message", "invalid_message"]);
