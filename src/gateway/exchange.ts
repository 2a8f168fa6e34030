import type { IncomingMessage, ServerResponse } from "node:http";
import { StreamServeError } from "../errors.js";
import { asStreamServeError, errorBody } from "./http-errors.js";

/** A refused body is read and dropped for so long, so that the client gets to see the answer. */
const DISCARD_MS = 2_000;

/** One HTTP request and its answer. */
export class Exchange {
  #continued = false;

  constructor(
    readonly request: IncomingMessage,
    readonly response: ServerResponse,
    /** The path without query. */
    readonly path: string,
    readonly maxBodyBytes: number,
  ) {}

  /** True once nobody reads the answer any more. */
  get gone(): boolean {
    return this.response.destroyed;
  }

  /**
   * The JSON body. Throws `unsupported_media_type`, `body_too_large`, `invalid_utf8` or `invalid_json`.
   */
  async readJson(): Promise<unknown> {
    const { headers } = this.request;
    const [type = "", ...parameters] = (headers["content-type"] ?? "application/json")
      .toLowerCase()
      .split(";");
    const charset =
      parameters.map((text) => /^\s*charset="?([^"]*)"?\s*$/.exec(text)?.[1]).find(Boolean) ?? "utf-8";
    if (
      type.trim() !== "application/json" ||
      !/^utf-?8$/.test(charset) ||
      headers["content-encoding"] !== undefined
    ) {
      throw new StreamServeError(
        "unsupported_media_type",
        "The body must be plain JSON in UTF-8: send 'Content-Type: application/json' and no Content-Encoding.",
      );
    }
    const text = decodeUtf8(await this.#readBody());
    try {
      return JSON.parse(text) as unknown;
    } catch (error) {
      throw new StreamServeError("invalid_json", `The body is not valid JSON: ${(error as Error).message}.`);
    }
  }

  sendJson(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
    this.sendText(status, "application/json", JSON.stringify(body), headers);
  }

  sendText(
    status: number,
    type: string,
    text: string | Buffer,
    headers: Readonly<Record<string, string>> = {},
  ): void {
    if (this.gone) return;
    this.#write(status, type, text, headers);
    this.response.end();
  }

  /** Answers with the error; once headers are out it can only cut the connection. */
  sendError(thrown: unknown, headers: Readonly<Record<string, string>> = {}): void {
    const error = asStreamServeError(thrown);
    if (this.response.headersSent) {
      this.response.destroy();
      return;
    }
    const more: Record<string, string> = { ...headers };
    const { retryAfterMs } = error.details;
    if (typeof retryAfterMs === "number") {
      more["retry-after"] = String(Math.ceil(retryAfterMs / 1000));
      // OpenAI's clients look for this first: it is finer.
      more["retry-after-ms"] = String(Math.ceil(retryAfterMs));
    }
    if (error.code === "unauthorized") more["www-authenticate"] = "Bearer";
    if (this.gone) return;
    const bodyUnderWay = !this.request.complete && !this.#waitsToBeAsked;
    if (!this.request.complete) more.connection = "close";
    this.#write(error.status, "application/json", JSON.stringify(errorBody(error)), more);
    if (bodyUnderWay) this.#endAfterBody();
    else this.response.end();
  }

  /** The client waits to be asked for its body, and has not been. */
  get #waitsToBeAsked(): boolean {
    return this.request.headers.expect !== undefined && !this.#continued;
  }

  #write(
    status: number,
    type: string,
    text: string | Buffer,
    headers: Readonly<Record<string, string>>,
  ): void {
    const length = { "content-type": type, "content-length": Buffer.byteLength(text) };
    this.response.writeHead(status, { ...length, ...headers });
    if (this.request.method !== "HEAD") this.response.write(text);
  }

  async #readBody(): Promise<Buffer> {
    if (Number(this.request.headers["content-length"] ?? 0) > this.maxBodyBytes) throw this.#tooLarge();
    if (this.request.headers.expect !== undefined) {
      this.response.writeContinue();
      this.#continued = true;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    await new Promise<void>((resolve, reject) => {
      this.request.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > this.maxBodyBytes) reject(this.#tooLarge());
        else chunks.push(chunk);
      });
      this.request.on("end", resolve);
      this.request.on("close", () => reject(new StreamServeError("cancelled", "The client went away.")));
      // Of a request whose socket was cut, which "close" tells of after this.
      this.request.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "ECONNRESET") reject(error);
      });
    });
    return Buffer.concat(chunks, bytes);
  }

  #tooLarge(): StreamServeError {
    return new StreamServeError(
      "body_too_large",
      `The body is larger than ${this.maxBodyBytes} bytes (server.maxBodyBytes).`,
      { maxBodyBytes: this.maxBodyBytes },
    );
  }

  /** To close while the client still writes would reset the connection, and the answer with it. */
  #endAfterBody(): void {
    this.request.removeAllListeners("data");
    this.request.resume();
    const timer = setTimeout(() => this.request.destroy(), DISCARD_MS);
    timer.unref();
    this.request.once("end", () => this.response.end());
    this.request.once("close", () => clearTimeout(timer));
  }
}

/** Throws `invalid_utf8`. */
function decodeUtf8(bytes: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new StreamServeError("invalid_utf8", "The body holds bytes that are not UTF-8.");
  }
}
