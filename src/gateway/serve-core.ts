import { once } from "node:events";
import type { AddressInfo, Server as TcpServer } from "node:net";
import type { Config } from "../config/schema.js";
import { chatRoute } from "./chat-route.js";
import { completionRoute } from "./completion-route.js";
import type { ServingCore } from "./core.js";
import { DrainableService } from "./drain.js";
import type { Guard } from "./guard.js";
import { countSockets, createHttpDoor } from "./http-door.js";
import { listen } from "./listen.js";
import type { ServerLog } from "./log.js";
import { MeteredService } from "./metered-service.js";
import { Metrics } from "./metrics.js";
import { pageRoutes } from "./page-routes.js";
import type { RunningServer } from "./running-server.js";
import { statusRoutes } from "./status-routes.js";
import { TraceFeed } from "./trace-feed.js";
import { attachWebSocketDoor, type WebSocketDoor } from "./websocket-door.js";

/** How long running requests may go on after `close()`. */
const GRACE_MS = 10_000;
/** Answers that are already written get so long to leave their sockets. */
const FLUSH_MS = 500;

/** Opens the doors of a running core. The server owns the core from then on. */
export async function serveCore(
  inner: ServingCore,
  { server, runtime }: Pick<Config, "server" | "runtime">,
  guard: Guard,
  log: ServerLog,
): Promise<RunningServer> {
  const drainable = new DrainableService(inner.service);
  let sockets = (): number => 0;
  let webSockets: WebSocketDoor | undefined;
  const metrics = new Metrics(drainable, {
    sockets: () => sockets(),
    webSockets: () => webSockets?.open ?? 0,
  });
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
  sockets = countSockets(http);
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
    if (http.listening || sockets() > 0) await once(http, "close");
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

function urlOf(http: TcpServer, host: string): string {
  const { port } = http.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
