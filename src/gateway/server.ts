import { once } from "node:events";
import { type AddressInfo, createServer, type Server as TcpServer } from "node:net";
import { type Logger, pino } from "pino";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import { chatRoute } from "./chat-route.js";
import { completionRoute } from "./completion-route.js";
import type { ServingCore } from "./core.js";
import { DrainableService } from "./drain.js";
import type { ServiceInfo } from "./generation.js";
import { Guard } from "./guard.js";
import { createHttpDoor } from "./http-door.js";
import { MeteredService } from "./metered-service.js";
import { Metrics } from "./metrics.js";
import { openCore } from "./open-core.js";
import { pageRoutes } from "./page-routes.js";
import { statusRoutes } from "./status-routes.js";
import { TraceFeed } from "./trace-feed.js";
import { attachWebSocketDoor, type WebSocketDoor } from "./websocket-door.js";

/** How long running requests may go on after `close()`. */
const GRACE_MS = 10_000;
/** Answers that are already written get so long to leave their sockets. */
const FLUSH_MS = 500;

/** People read standard error: what is worth a line there. */
const LOG_LEVEL = "warn";

/** A server under way. */
export interface RunningServer {
  /** Where it listens, e.g. `http://127.0.0.1:8080`; port 0 in the config gives a free one. */
  readonly url: string;
  /** What is served, and on what. */
  readonly info: ServiceInfo;
  /**
   * Takes no new requests, gives running ones `graceMs` (default 10 s) to end, cancels the rest, then stops all
   * threads. A second call hurries the first.
   */
  close(graceMs?: number): Promise<void>;
}

/**
 * Starts model, actors and the HTTP + WebSocket server.
 * Throws `port_in_use`, `config_invalid` (an address other than loopback without a key), and what opening a
 * model throws.
 */
export async function startServer(config: Config): Promise<RunningServer> {
  const guard = new Guard(config.server);
  await probePort(config.server);
  const log = pino({ name: "streamserve", level: LOG_LEVEL }, pino.destination(2));
  const core = await openCore(config, ({ level, actor, text, fields }) =>
    log[level]({ actor, ...fields }, text),
  );
  try {
    return await serveCore(core, config, guard, log);
  } catch (error) {
    await core.close();
    throw error;
  }
}

/** Opens the doors of a running core. The server owns the core from then on. */
export async function serveCore(
  inner: ServingCore,
  { server, runtime }: Pick<Config, "server" | "runtime">,
  guard: Guard,
  log: Logger,
): Promise<RunningServer> {
  const drainable = new DrainableService(inner.service);
  let sockets = 0;
  let webSockets: WebSocketDoor | undefined;
  const metrics = new Metrics(drainable, { sockets: () => sockets, webSockets: () => webSockets?.open ?? 0 });
  const core: ServingCore = { ...inner, service: new MeteredService(drainable, metrics) };
  const trace = new TraceFeed(core, runtime.trace);
  const http = createHttpDoor({
    server,
    guard,
    routes: [
      {
        method: "POST",
        path: "/v1/chat/completions",
        handle: (exchange) => chatRoute(core, server, exchange),
      },
      {
        method: "POST",
        path: "/v1/completions",
        handle: (exchange) => completionRoute(core, server, exchange),
      },
      { method: "GET", path: "/v1/trace", handle: (exchange) => trace.serve(exchange) },
      ...statusRoutes(core, metrics, () => drainable.draining),
      ...pageRoutes(),
    ],
    answered: (status) => metrics.answered(status),
    unforeseen: (error) => log.error({ err: error.cause ?? error }, error.message),
  });
  http.on("connection", (socket) => {
    sockets++;
    socket.once("close", () => sockets--);
  });
  webSockets = attachWebSocketDoor(http, core, server, guard);
  await listen(http, server);

  let closing: Promise<void> | undefined;
  const close = async (graceMs: number): Promise<void> => {
    http.close();
    await drainable.drain(graceMs);
    webSockets.close();
    trace.close();
    http.closeIdleConnections();
    const flushed = setTimeout(() => {
      http.closeAllConnections();
      webSockets.cut();
    }, FLUSH_MS);
    if (http.listening || sockets > 0) await once(http, "close");
    clearTimeout(flushed);
    await inner.close();
  };
  return {
    url: urlOf(http, server.host),
    info: inner.service.info,
    close(graceMs = GRACE_MS) {
      if (closing === undefined) closing = close(graceMs);
      else drainable.hurry();
      return closing;
    },
  };
}

/** Throws `port_in_use` before time is spent on a model. */
async function probePort(server: Config["server"]): Promise<void> {
  if (server.port === 0) return;
  const probe = createServer();
  await listen(probe, server);
  probe.close();
  await once(probe, "close");
}

async function listen(door: TcpServer, { host, port }: Config["server"]): Promise<void> {
  try {
    door.listen(port, host);
    await once(door, "listening");
  } catch (error) {
    throw listenError(error as NodeJS.ErrnoException, host, port);
  }
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): StreamServeError {
  if (error.code === "EADDRINUSE") {
    return new StreamServeError(
      "port_in_use",
      `Port ${port} on ${host} is taken: stop the program that has it, or choose another port (server.port).`,
      { port },
    );
  }
  return new StreamServeError("config_invalid", `Can't listen on ${host}:${port}: ${error.message}.`, {
    port,
  });
}

function urlOf(http: TcpServer, host: string): string {
  const { port } = http.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
