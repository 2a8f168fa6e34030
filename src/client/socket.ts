import { StreamServeError } from "../errors.js";
import { asError } from "./websocket-wire.js";

/** What browsers' WebSocket and that of the package `ws` have in common, as far as it is used here. */
export interface SocketLike {
  send(data: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "message", listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: "close",
    listener: (event: { readonly code: number; readonly reason: string }) => void,
  ): void;
  addEventListener(type: "open" | "error", listener: (event: { readonly message?: string }) => void): void;
}

type SocketConstructor = new (url: string, protocols: string[]) => SocketLike;

const PATH = "/v1/stream";

/**
 * Connects; throws `invalid_parameter` for a URL that is none, `connection_failed`, or, in Node, what the server refused
 * the handshake with: browsers don't tell.
 */
export async function openSocket(url: string, apiKey: string | undefined): Promise<SocketLike> {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target === undefined || !/^(http|ws)s?:$/.test(target.protocol)) {
    throw new StreamServeError(
      "invalid_parameter",
      `'url' is not valid: '${url}' is no address such as http://127.0.0.1:8080.`,
      { param: "url" },
    );
  }
  target.protocol = target.protocol.replace(/^http/, "ws");
  if (target.pathname === "/") target.pathname = PATH;
  const protocols = [
    "streamserve.v1",
    ...(apiKey === undefined ? [] : [`streamserve.key.${base64url(apiKey)}`]),
  ];
  const { WebSocket: native, process } = globalThis as {
    readonly WebSocket?: SocketConstructor;
    readonly process?: { readonly versions?: { readonly node?: string } };
  };
  return native === undefined || process?.versions?.node !== undefined
    ? openInNode(target.href, protocols)
    : open(new native(target.href, protocols), target.href);
}

/** Node 20 has no WebSocket of its own, and those of later ones don't show why a handshake was refused. */
async function openInNode(url: string, protocols: string[]): Promise<SocketLike> {
  const { WebSocket } = await import("ws");
  const socket = new WebSocket(url, protocols);
  return new Promise((resolve, reject) => {
    socket.on("unexpected-response", (_request, response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        body += text;
      });
      response.on("end", () => reject(refusal(body, response.statusCode ?? 0)));
    });
    open(socket as unknown as SocketLike, url).then(resolve, reject);
  });
}

function open(socket: SocketLike, url: string): Promise<SocketLike> {
  return new Promise((resolve, reject) => {
    const failed = ({ message }: { readonly message?: string }): void =>
      reject(
        new StreamServeError("connection_failed", `Can't connect to ${url}${message ? `: ${message}` : ""}.`),
      );
    socket.addEventListener("open", () => resolve(socket));
    socket.addEventListener("error", failed);
    socket.addEventListener("close", failed as (event: { readonly code: number }) => void);
  });
}

function refusal(body: string, status: number): StreamServeError {
  try {
    const { error } = JSON.parse(body) as {
      readonly error: { readonly code: string; readonly message: string };
    };
    return asError(error.code, error.message);
  } catch {
    return new StreamServeError(
      "connection_failed",
      `The server refused the WebSocket with status ${status}.`,
    );
  }
}

function base64url(text: string): string {
  const binary = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
