import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "./core.js";
import { generateText } from "./generate-text.js";
import type { Generation } from "./generation.js";
import { Grants } from "./grants.js";
import { asStreamServeError } from "./http-errors.js";
import { checkModel } from "./models.js";
import { fromWire } from "./parameters.js";
import { encodePrompt, prepare, WIRE_NAMES } from "./prepare.js";
import { refuse } from "./validation.js";
import {
  deltaMessage,
  doneMessage,
  type GenerateMessage,
  MOST_CREDIT,
  startedMessage,
} from "./websocket-messages.js";

/** What a request needs of its socket. */
export interface RequestSocket {
  /** Sends a message; `flushed` is called when it has left the process. */
  send(message: object, flushed?: () => void): void;
  /** The request is over; an error is still to be sent. */
  ended(id: string, error?: StreamServeError): void;
}

/**
 * One generation of a WebSocket. Tokens go to the service's credit when they have both left the socket and been
 * granted by the client; at most `creditWindowTokens` are under way, whatever the client grants.
 */
export class WebSocketRequest {
  readonly #core: ServingCore;
  readonly #server: Config["server"];
  readonly #socket: RequestSocket;
  readonly #message: GenerateMessage;
  readonly #grants: Grants;
  #generation: Pick<Generation, "cancel" | "grant"> | undefined;
  #over = false;
  /** Tokens that the client lets come beyond those passed on to the service; infinite if it doesn't count. */
  #credit: number;
  /** Tokens that may be passed on without more than a window being under way. */
  #window: number;
  /** Tokens passed on to the service and not yet delivered. */
  #expected = 0;
  #stall: NodeJS.Timeout | undefined;

  constructor(core: ServingCore, server: Config["server"], socket: RequestSocket, message: GenerateMessage) {
    this.#core = core;
    this.#server = server;
    this.#socket = socket;
    this.#message = message;
    this.#credit = message.credit ?? Number.POSITIVE_INFINITY;
    this.#window = server.creditWindowTokens;
    this.#grants = new Grants(message.credit === undefined ? server.creditWindowTokens : 1);
  }

  /** Checks, encodes and submits. Never throws: the socket is told how it ended. */
  async start(): Promise<void> {
    const { id, messages, prompt } = this.#message;
    try {
      checkModel(this.#core.service.info, this.#message.model);
      if ((messages === undefined) === (prompt === undefined)) {
        throw refuse("messages", "Give either 'messages' or 'prompt'.");
      }
      const source =
        messages !== undefined
          ? { messages }
          : typeof prompt === "string"
            ? { text: prompt }
            : { ids: prompt ?? [] };
      const ids = await encodePrompt(this.#core, source);
      if (this.#over) return;
      const parameters = fromWire(this.#message, this.#message.logprobs ?? -1);
      const credit = this.#takeCredit();
      const request = prepare(this.#core, ids, parameters, {
        names: WIRE_NAMES,
        source: messages === undefined ? "prompt" : "messages",
        defaultMaxTokens: this.#server.defaultMaxTokens,
        credit,
      });
      this.#socket.send(startedMessage(id, ids.length, request.maxTokens));
      this.#expected = credit;
      this.#submit(request);
    } catch (error) {
      this.#end(asStreamServeError(error));
    }
  }

  /** The client takes so many tokens more. Throws `invalid_credit` when the sum grows past all bounds. */
  credit(tokens: number): void {
    if (!Number.isFinite(this.#credit)) {
      throw new StreamServeError(
        "invalid_credit",
        "This request was started without 'credit': it takes none.",
      );
    }
    if (this.#credit + tokens > MOST_CREDIT) {
      throw new StreamServeError(
        "invalid_credit",
        `A request holds at most ${MOST_CREDIT} tokens of credit.`,
      );
    }
    this.#credit += tokens;
    this.#passOn();
  }

  /** Ends the request without a word; the caller says why. */
  abandon(): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#stall);
    this.#generation?.cancel();
  }

  #submit(request: Parameters<typeof generateText>[1]): void {
    const { id } = this.#message;
    const withLogprobs = request.sampling.logprobs >= 0;
    const generation = generateText(this.#core, request, {
      delta: (delta) => {
        if (this.#over) return;
        this.#expected -= delta.tokens;
        this.#socket.send(deltaMessage(id, delta, withLogprobs), () => this.#flushed(delta.tokens));
        this.#watch();
      },
      done: (ending) => {
        if (this.#over) return;
        this.#socket.send(doneMessage(id, ending));
        this.#end();
      },
      failed: (error) => this.#end(error),
    });
    this.#generation = generation;
    this.#grants.attach(generation);
    if (this.#over) generation.cancel();
    this.#watch();
  }

  #flushed(tokens: number): void {
    this.#window += tokens;
    this.#passOn();
  }

  #takeCredit(): number {
    const tokens = Math.min(this.#credit, this.#window);
    this.#credit -= tokens;
    this.#window -= tokens;
    return tokens;
  }

  #passOn(): void {
    if (this.#over || this.#generation === undefined) return;
    const tokens = this.#takeCredit();
    this.#expected += tokens;
    if (tokens > 0) this.#grants.taken(tokens);
    this.#watch();
  }

  /** A client that owes credit for `stallMs` loses its request. */
  #watch(): void {
    const owes = !this.#over && this.#expected <= 0 && this.#credit === 0;
    if (!owes) {
      clearTimeout(this.#stall);
      this.#stall = undefined;
    } else {
      this.#stall ??= setTimeout(() => this.#stalled(), this.#server.stallMs);
    }
  }

  #stalled(): void {
    const { stallMs } = this.#server;
    this.#generation?.cancel();
    this.#end(
      new StreamServeError("slow_reader", `No credit came for ${stallMs} ms: grant some as you read.`, {
        stallMs,
      }),
    );
  }

  #end(error?: StreamServeError): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#stall);
    this.#socket.ended(this.#message.id, error);
  }
}
