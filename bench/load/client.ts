import * as http from "node:http";
import * as https from "node:https";
import { BenchError } from "../bench-error.js";
import { failed, measureStream, type Outcome, readError } from "./measure.js";
import type { Piece } from "./sse.js";

/** Bytes of a response kept, at most: 16k tokens with their JSON around them fit several times. */
const RESPONSE_LIMIT = 32 * 1024 * 1024;
/** A server that has not listed its models by then is not there. */
const MODELS_TIMEOUT_MS = 10_000;

/**
 * An OpenAI-compatible server. Each request has a connection of its own, as separate users would: a kept one
 * that the server closes meanwhile would look like a failure of the server.
 */
export class CompletionClient {
  readonly #base: URL;
  readonly #agent: http.Agent;
  readonly #headers: Record<string, string>;
  readonly #timeoutMs: number;

  /** `url` is the server's root, with or without a trailing `/v1`. Throws BenchError for anything but http(s). */
  constructor(url: string, apiKey: string | undefined, timeoutMs: number) {
    this.#base = readBase(url);
    const options = { keepAlive: false, noDelay: true };
    this.#agent = this.#base.protocol === "https:" ? new https.Agent(options) : new http.Agent(options);
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
    this.#timeoutMs = timeoutMs;
  }

  /** The first model that the server lists. Throws BenchError with what to do when there is none to be had. */
  async firstModel(): Promise<string> {
    const where = this.#base.origin;
    const reply = await this.#exchange("GET", "v1/models", undefined, MODELS_TIMEOUT_MS, undefined);
    if (!reply.ok) {
      throw new BenchError(
        `No server answers at ${where} (${reply.code}): start one (npm start) or name another with --url.`,
      );
    }
    const body = parseJson(Buffer.concat(reply.pieces.map((piece) => piece.bytes)));
    if (reply.status !== 200) {
      throw new BenchError(
        `${where} refuses to list its models: ${readError(`HTTP ${reply.status}`, body).message}`,
      );
    }
    const id = (body as { data?: { id?: unknown }[] } | undefined)?.data?.[0]?.id;
    if (typeof id !== "string") throw new BenchError(`${where} lists no models: name one with --model.`);
    return id;
  }

  /**
   * Streams one chat completion and measures it. `dueMs` (on `performance.now`'s clock) is when the request
   * should have been sent: time it spent waiting for its turn counts. Never throws.
   */
  async complete(
    body: Readonly<Record<string, unknown>>,
    dueMs: number,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const reply = await this.#exchange(
      "POST",
      "v1/chat/completions",
      JSON.stringify(body),
      this.#timeoutMs,
      signal,
    );
    if (!reply.ok) return failed(reply.code, reply.message);
    if (reply.status !== 200) {
      const text = Buffer.concat(reply.pieces.map((piece) => piece.bytes));
      return readError(`HTTP ${reply.status}`, parseJson(text) ?? text.toString("utf8"));
    }
    return measureStream(reply.pieces, dueMs, reply.endedMs);
  }

  close(): void {
    this.#agent.destroy();
  }

  #exchange(
    method: string,
    path: string,
    body: string | undefined,
    timeoutMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Reply> {
    return new Promise((resolve) => {
      const pieces: Piece[] = [];
      let bytes = 0;
      const limit = AbortSignal.timeout(timeoutMs);
      const fail = (error: Error & { code?: string }) => {
        if (limit.aborted) {
          resolve({ ok: false, code: "timeout", message: `No answer within ${timeoutMs} ms.` });
        } else if (signal?.aborted) {
          resolve({ ok: false, code: "interrupted", message: "Interrupted." });
        } else {
          resolve({ ok: false, code: error.code ?? "transport", message: error.message });
        }
      };
      const transport = this.#base.protocol === "https:" ? https : http;
      const request = transport.request(new URL(path, this.#base), {
        method,
        agent: this.#agent,
        signal: signal ? AbortSignal.any([signal, limit]) : limit,
        headers: {
          ...this.#headers,
          ...(body === undefined
            ? {}
            : { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
        },
      });
      request.on("error", fail);
      request.on("close", () => fail(new Error("The connection was closed.")));
      request.on("response", (response) => {
        response.on("data", (chunk: Buffer) => {
          pieces.push({ atMs: performance.now(), bytes: chunk });
          bytes += chunk.length;
          if (bytes > RESPONSE_LIMIT) {
            resolve({ ok: false, code: "response_too_large", message: `Over ${RESPONSE_LIMIT} bytes.` });
            request.destroy();
          }
        });
        response.on("error", fail);
        response.on("end", () =>
          resolve({ ok: true, status: response.statusCode ?? 0, pieces, endedMs: performance.now() }),
        );
      });
      request.end(body);
    });
  }
}

type Reply =
  | {
      readonly ok: true;
      readonly status: number;
      readonly pieces: readonly Piece[];
      readonly endedMs: number;
    }
  | { readonly ok: false; readonly code: string; readonly message: string };

function readBase(url: string): URL {
  let base: URL;
  try {
    base = new URL(url);
  } catch {
    throw new BenchError(`${JSON.stringify(url)} is not a URL: give one such as http://127.0.0.1:8080.`);
  }
  if (base.protocol !== "http:" && base.protocol !== "https:") {
    throw new BenchError(`${url} is neither http nor https.`);
  }
  base.pathname = base.pathname.replace(/\/*(v1\/?)?$/, "/");
  return base;
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
