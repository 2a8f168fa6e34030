import { StreamServeError } from "../errors.js";
import { GenerationStream } from "./generation-stream.js";
import { openSocket, type SocketLike } from "./socket.js";
import type { ChatOptions, CompleteOptions, TextGeneration } from "./text-generation.js";
import { asDelta, asEnding, asError, generateMessage, isCode, type ServerMessage } from "./websocket-wire.js";

/** Tokens that the server may send ahead of the reader, unless told otherwise. */
const WINDOW_TOKENS = 256;

export interface ConnectOptions {
  readonly apiKey?: string;
  /** Tokens that the server may send ahead of each reader, from 1; 256 by default. */
  readonly windowTokens?: number;
}

interface Open {
  readonly stream: GenerationStream;
  /** Tokens read since the last grant. */
  read: number;
}

/**
 * A client of the WebSocket door, for Node and browsers. Many generations share the socket; each is read at its
 * own pace, and its reader's pace is all the credit the server gets.
 *
 * `const client = await StreamServeClient.connect("http://127.0.0.1:8080")`
 */
export class StreamServeClient implements AsyncDisposable {
  readonly #socket: SocketLike;
  readonly #window: number;
  readonly #open = new Map<string, Open>();
  readonly #closed: Promise<void>;
  #next = 0;
  #broken: StreamServeError | undefined;

  private constructor(socket: SocketLike, window: number) {
    this.#socket = socket;
    this.#window = window;
    socket.addEventListener("message", ({ data }) => this.#receive(String(data)));
    this.#closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason }) => {
        this.#break(closeError(code, reason));
        resolve();
      });
    });
  }

  /**
   * `url`: the server's, e.g. `http://127.0.0.1:8080`. Throws `invalid_parameter`, `connection_failed`, or, in Node, why
   * the server refused.
   */
  static async connect(url: string, options: ConnectOptions = {}): Promise<StreamServeClient> {
    const { apiKey, windowTokens = WINDOW_TOKENS } = options;
    if (!Number.isSafeInteger(windowTokens) || windowTokens < 1) {
      throw new StreamServeError(
        "invalid_parameter",
        `'windowTokens' is not valid: expected a whole number from 1, received ${windowTokens}.`,
        { param: "windowTokens" },
      );
    }
    return new StreamServeClient(await openSocket(url, apiKey), windowTokens);
  }

  /** Continues a chat. Wrong options, and whatever goes wrong later, are thrown by the iteration. */
  chat(options: ChatOptions): TextGeneration {
    return this.#generate(options);
  }

  /** Continues raw text or token ids. */
  complete(options: CompleteOptions): TextGeneration {
    return this.#generate(options);
  }

  /** Cancels all generations and closes the socket. */
  close(): Promise<void> {
    this.#break(new StreamServeError("cancelled", "The client was closed."));
    this.#socket.close(1000);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #generate(options: ChatOptions | CompleteOptions): TextGeneration {
    const id = String(this.#next++);
    const stream = new GenerationStream(
      {
        consumed: (tokens) => this.#consumed(id, tokens),
        cancel: () => {
          if (this.#open.delete(id)) this.#send({ type: "cancel", id });
        },
      },
      options?.signal,
    );
    if (this.#broken !== undefined) {
      stream.fail(this.#broken);
    } else if (!options?.signal?.aborted) {
      this.#start(id, stream, options);
    }
    return stream;
  }

  #start(id: string, stream: GenerationStream, options: ChatOptions | CompleteOptions): void {
    let message: string;
    try {
      message = generateMessage(id, this.#window, options);
    } catch (cause) {
      const why = cause instanceof Error ? cause.message : String(cause);
      stream.fail(
        new StreamServeError("invalid_parameter", `The options can't be sent: ${why}.`, {}, { cause }),
      );
      return;
    }
    this.#open.set(id, { stream, read: 0 });
    this.#socket.send(message);
  }

  #consumed(id: string, tokens: number): void {
    const open = this.#open.get(id);
    if (open === undefined) return;
    open.read += tokens;
    // Few messages, and yet the server never waits for a reader that keeps up.
    if (open.read * 4 < this.#window) return;
    this.#send({ type: "credit", id, tokens: open.read });
    open.read = 0;
  }

  #send(message: object): void {
    if (this.#broken === undefined) this.#socket.send(JSON.stringify(message));
  }

  #receive(text: string): void {
    const message = JSON.parse(text) as ServerMessage;
    if (message.type === "error") {
      this.#failed(message);
      return;
    }
    const open = this.#open.get(message.id);
    if (open === undefined) return;
    if (message.type === "delta") {
      open.stream.push(asDelta(message));
    } else if (message.type === "done") {
      this.#open.delete(message.id);
      open.stream.end(asEnding(message));
    }
  }

  #failed({ id, ends, code, message, param, details }: ServerMessage & { type: "error" }): void {
    const error = asError(code, message, { ...details, ...(param === undefined ? {} : { param }) });
    if (ends === "socket") this.#break(error);
    if (id === undefined || ends === "nothing") return;
    const open = this.#open.get(id);
    this.#open.delete(id);
    open?.stream.fail(error);
  }

  /** Fails all open generations, and those to come. */
  #break(error: StreamServeError): void {
    this.#broken ??= error;
    for (const { stream } of this.#open.values()) stream.fail(this.#broken);
    this.#open.clear();
  }
}

/** The close code of a message that is larger than the server takes (RFC 6455, 7.4.1). */
const MESSAGE_TOO_BIG = 1009;

function closeError(code: number, reason: string): StreamServeError {
  if (code === MESSAGE_TOO_BIG) {
    return new StreamServeError(
      "body_too_large",
      "A request was larger than the server takes (server.maxBodyBytes), which closed the WebSocket: connect again.",
      { closeCode: code },
    );
  }
  const why = reason === "" ? `code ${code}` : `code ${code}, ${reason}`;
  return new StreamServeError(
    isCode(reason) ? reason : "connection_failed",
    `The WebSocket was closed (${why}): connect again.`,
    { closeCode: code },
  );
}
