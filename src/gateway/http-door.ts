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
  let sockets = 0;
  server.on("connection", (socket: Socket) => {
    sockets++;
    socket.once("close", () => sockets--);
    if (sockets > config.maxSockets) {
      const message = `${config.maxSockets} connections are open (server.maxSockets): try again later.`;
      refuseSocket(socket, new StreamServeError("too_many_connections", message));
    }
  });
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    response.once("finish", () => options.answered(response.statusCode));
    const path = (request.url ?? "/").split("?", 1)[0]!;
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

async function serve(exchange: Exchange, { guard, routes }: HttpDoorOptions): Promise<void> {
  const { request, response, path } = exchange;
  const foreign = guard.checkSource(request);
  if (foreign !== undefined) {
    response.setHeader("access-control-allow-origin", foreign);
    response.setHeader("access-control-expose-headers", "retry-after, retry-after-ms");
    response.setHeader("vary", "origin");
  }
  const matching = routes.filter((route) => matches(route.path, path));
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

/** Answers on a socket that has no response object (yet), and closes it. */
export function refuseSocket(
  socket: Socket,
  error: StreamServeError,
  status: number = ERROR_CODES[error.code],
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
