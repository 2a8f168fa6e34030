import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from "node:http";
import type { Socket } from "node:net";
import type { Config } from "../config/schema.js";
import { ERROR_CODES, StreamServeError } from "../errors.js";
import { Exchange } from "./exchange.js";
import type { Guard } from "./guard.js";
import { asStreamServeError, errorBody } from "./http-errors.js";
import { SUBPROTOCOL, WEBSOCKET_PATH } from "./websocket-messages.js";

/** A client that has not sent its headers by then is cut off (slowloris). */
const HEADERS_MS = 10_000;
/** The same for headers and body: a 4 MB body over a slow line takes less. */
const REQUEST_MS = 60_000;
/** How long an idle connection is kept for the next request. */
const KEEP_ALIVE_MS = 65_000;
/** How often connections are checked against the limits above. */
const CHECK_MS = 2_000;
/** Connections beyond `maxSockets` that are told so before they are closed; more are dropped. */
const SOCKETS_TOLD = 64;

export interface Route {
  readonly method: "GET" | "POST";
  /** An exact path, or the beginning of one if it ends in `*`. */
  readonly path: string;
  /** True where no key is asked for. */
  readonly open?: boolean;
  readonly handle: (exchange: Exchange) => Promise<void> | void;
}

export interface HttpDoorOptions {
  readonly server: Config["server"];
  readonly guard: Guard;
  readonly routes: readonly Route[];
  /** Told the status of each answer. */
  readonly answered: (status: number) => void;
  /** Told of failures that no code foresees. */
  readonly unforeseen: (error: StreamServeError) => void;
}

/** Counts a server's open sockets from now on, each once: one whose offer was declined comes twice. */
export function countSockets(http: Server): () => number {
  const open = new Set<Socket>();
  http.on("connection", (socket: Socket) => {
    if (open.has(socket)) return;
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  return () => open.size;
}

/** The HTTP server: limits, guards, routing, and errors as JSON. */
export function createHttpDoor(options: HttpDoorOptions): Server {
  const { server: config } = options;
  const server = createServer({
    headersTimeout: HEADERS_MS,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: CHECK_MS,
  });
  server.maxConnections = config.maxSockets + SOCKETS_TOLD;
  const sockets = countSockets(server);
  server.on("connection", (socket: Socket) => {
    if (sockets() > config.maxSockets) {
      const message = `${config.maxSockets} connections are open (server.maxSockets): try again later.`;
      refuseSocket(socket, new StreamServeError("too_many_connections", message));
    }
  });
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    LATEST.set(request.socket, response);
    response.once("finish", () => options.answered(response.statusCode));
    const path = pathOf(request);
    const exchange = new Exchange(request, response, path, config.maxBodyBytes);
    serve(exchange, options).catch((thrown: unknown) => {
      const error = asStreamServeError(thrown);
      if (error.code === "internal") options.unforeseen(error);
      exchange.sendError(error);
    });
  };
  server.on("request", handle);
  // `Expect: 100-continue`: the body is asked for once its length and the route are known to be good.
  server.on("checkContinue", handle);
  server.on("clientError", (error: NodeJS.ErrnoException, socket: Socket) => {
    refuseSocket(socket, unreadable(error), unreadableStatus(error));
  });
  return server;
}

/** The path asked for; proxies' clients send the whole address (RFC 9112, 3.2.2). */
export function pathOf({ url = "/" }: IncomingMessage): string {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, "").split("?", 1)[0]!;
  return path === "" ? "/" : path;
}

async function serve(exchange: Exchange, { guard, routes }: HttpDoorOptions): Promise<void> {
  const { request, response, path } = exchange;
  const foreign = guard.checkSource(request);
  if (foreign !== undefined) {
    response.setHeader("access-control-allow-origin", foreign);
    response.setHeader("access-control-expose-headers", "retry-after, retry-after-ms");
    response.setHeader("vary", "origin");
  }
  const matching = routes.filter((route) => matches(route.path, path));
  if (path === WEBSOCKET_PATH) {
    throw new StreamServeError(
      "invalid_request",
      `'${path}' is for WebSockets alone: connect with the subprotocol '${SUBPROTOCOL}', and let no proxy drop 'Upgrade'.`,
    );
  }
  if (matching.length === 0) {
    throw new StreamServeError(
      "unknown_route",
      `There is no '${path.slice(0, 200)}' here: see docs/protocol.md.`,
    );
  }
  const methods = [...new Set(matching.map(({ method }) => method))];
  if (request.method === "OPTIONS") {
    preflight(exchange, methods);
    return;
  }
  const asked = request.method === "HEAD" ? "GET" : request.method;
  const route = matching.find(({ method }) => method === asked);
  if (route === undefined) {
    response.setHeader("allow", methods.join(", "));
    throw new StreamServeError(
      "method_not_allowed",
      `'${path}' takes ${methods.join(" or ")}, not ${request.method}.`,
    );
  }
  if (!route.open) guard.checkKey(request);
  await route.handle(exchange);
}

function matches(pattern: string, path: string): boolean {
  return pattern.endsWith("*") ? path.startsWith(pattern.slice(0, -1)) : path === pattern;
}

function preflight({ request, response }: Exchange, methods: readonly string[]): void {
  response.writeHead(204, {
    allow: methods.join(", "),
    "access-control-allow-methods": methods.join(", "),
    "access-control-allow-headers":
      request.headers["access-control-request-headers"] ?? "authorization, content-type",
    "access-control-max-age": "600",
  });
  response.end();
}

/** The answer last begun on each socket. */
const LATEST = new WeakMap<Socket, ServerResponse>();

/**
 * Answers a request that offers another protocol than WebSocket as if it did not, which RFC 9110 (7.8) allows: Java's
 * client offers HTTP/2 with all it sends. Node's parser has let go of the socket by now; the request goes back to the
 * socket without its offer, for a new parser to read, and is the last there: a socket goes through this once. Answers
 * still under way on it are the old parser's, so they end first.
 */
export function declineUpgrade(http: Server, request: IncomingMessage, socket: Socket, head: Buffer): void {
  // Without a listener a reset would end the process; the new parser brings its own.
  if (socket.listenerCount("error") === 0) socket.on("error", () => socket.destroy());
  const underWay = LATEST.get(socket);
  if (underWay !== undefined && !underWay.closed) {
    underWay.once("close", () => declineUpgrade(http, request, socket, head));
    return;
  }
  if (socket.destroyed) return;
  const { method, url, httpVersion, rawHeaders } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (!/^(connection|upgrade|http2-settings)$/i.test(name)) lines.push(`${name}: ${rawHeaders[at + 1]}`);
  }
  lines.push("Connection: close");
  // Node reads headers as Latin-1.
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  // That of an idle connection, which the new parser knows nothing of.
  socket.setTimeout(0);
  http.emit("connection", socket);
}

/** Answers on a socket that has no response object (yet), and closes it. */
export function refuseSocket(
  socket: Socket,
  error: StreamServeError,
  status: number = ERROR_CODES[error.code],
  headers: readonly string[] = [],
): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify(errorBody(error));
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}`,
    "Connection: close",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(status === 401 ? ["WWW-Authenticate: Bearer"] : []),
    ...headers,
  ];
  socket.on("error", () => socket.destroy());
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.destroySoon());
}

function unreadableStatus(error: NodeJS.ErrnoException): number {
  if (error.code === "HPE_HEADER_OVERFLOW") return 431;
  return error.code === "ERR_HTTP_REQUEST_TIMEOUT" ? 408 : 400;
}

function unreadable(error: NodeJS.ErrnoException): StreamServeError {
  const late = error.code === "ERR_HTTP_REQUEST_TIMEOUT";
  const message = late
    ? "The request did not arrive in time."
    : `The request is not valid HTTP: ${error.message}.`;
  return new StreamServeError("invalid_request", message);
}
