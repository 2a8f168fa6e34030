import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";

/**
 * Who may come in, for HTTP and WebSocket alike: programs with the key (when one is set), browsers on pages of
 * allowed origins, and on loopback only requests that name a loopback host, so that no foreign name that was
 * rebound to 127.0.0.1 reaches the server.
 */
export class Guard {
  readonly #loopback: boolean;
  readonly #key: Buffer | undefined;
  readonly #origins: ReadonlySet<string>;
  /** Names that allowed origins have for this server: a proxy before it keeps them in `Host`. */
  readonly #hosts: ReadonlySet<string>;

  /** Throws `config_invalid` when the address is not loopback and no key is set. */
  constructor(server: Config["server"]) {
    this.#loopback = isLoopback(server.host);
    this.#key = server.apiKey === undefined ? undefined : digest(server.apiKey);
    this.#origins = new Set(server.allowedOrigins.map((origin) => origin.replace(/\/$/, "").toLowerCase()));
    this.#hosts = new Set([...this.#origins].map((origin) => origin.replace(/^https?:\/\//, "")));
    if (!this.#loopback && this.#key === undefined) {
      throw new StreamServeError(
        "config_invalid",
        `Listening on ${server.host} would let anyone in: set server.apiKey, or listen on 127.0.0.1.`,
      );
    }
  }

  /** Throws `forbidden_origin` for a foreign Host or Origin. Returns the foreign origin that was let in, if any. */
  checkSource(request: IncomingMessage): string | undefined {
    const host = request.headers.host ?? "";
    if (this.#loopback && !isLoopback(hostname(host)) && !this.#hosts.has(host.toLowerCase())) {
      throw new StreamServeError(
        "forbidden_origin",
        `This server listens on loopback alone and does not answer to the host '${host}': use 127.0.0.1 or localhost.`,
      );
    }
    const origin = request.headers.origin?.toLowerCase();
    if (origin === undefined || origin.replace(/^https?:\/\//, "") === host.toLowerCase()) return undefined;
    if (this.#origins.has(origin)) return request.headers.origin;
    throw new StreamServeError(
      "forbidden_origin",
      `Pages of ${origin} may not use this server: add the origin to server.allowedOrigins.`,
    );
  }

  /** Throws `unauthorized` unless no key is set or the request carries it, as Bearer token or `offered`. */
  checkKey(request: IncomingMessage, offered?: Buffer): void {
    if (this.#key === undefined) return;
    const bearer = /^Bearer +(.+)$/i.exec(request.headers.authorization ?? "")?.[1]?.trim();
    // Node reads headers as Latin-1: back to the bytes that were sent.
    const key = bearer === undefined ? offered : Buffer.from(bearer, "latin1");
    if (key !== undefined && timingSafeEqual(digest(key), this.#key)) return;
    const problem = key === undefined ? "An API key is required" : "The API key is wrong";
    throw new StreamServeError("unauthorized", `${problem}: send it as 'Authorization: Bearer <key>'.`);
  }
}

/** Equal lengths for a comparison whose time says nothing of the key. */
function digest(key: string | Buffer): Buffer {
  return createHash("sha256").update(key).digest();
}

/** The name in a Host header, without port or brackets. */
function hostname(host: string): string {
  const bracketed = /^\[([^\]]*)\](:\d+)?$/.exec(host);
  return bracketed?.[1] ?? host.replace(/:\d+$/, "");
}

function isLoopback(host: string): boolean {
  if (host.toLowerCase() === "localhost") return true;
  return isIP(host) === 4 ? host.startsWith("127.") : host === "::1";
}
