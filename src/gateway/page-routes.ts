import { readFile } from "node:fs/promises";
import { StreamServeError } from "../errors.js";
import type { Exchange } from "./exchange.js";
import type { Route } from "./http-door.js";

/** The page and its modules run only what this server sends. */
const HEADERS = {
  "content-security-policy":
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "cache-control": "no-cache",
};

const DIST = new URL("../", import.meta.url);
const VIEWER = new URL("../../src/viewer/", import.meta.url);
/** Compiled modules that the page may load: the viewer's own and those of the WebSocket client. */
const MODULE = /^\/app\/((?:viewer|client)\/[a-z-]+\.js|errors\.js)$/;

/** The chat and actor page at `/`. */
export function pageRoutes(): Route[] {
  const file = (path: string, type: string, url: () => URL): Route => ({
    method: "GET",
    path,
    open: true,
    handle: (exchange) => sendFile(exchange, type, url()),
  });
  return [
    file("/", "text/html; charset=utf-8", () => new URL("index.html", VIEWER)),
    file("/app/viewer.css", "text/css; charset=utf-8", () => new URL("viewer.css", VIEWER)),
    file("/app/uplot.js", "text/javascript", () => new URL("./uPlot.esm.js", import.meta.resolve("uplot"))),
    file("/app/uplot.css", "text/css", () => new URL("./uPlot.min.css", import.meta.resolve("uplot"))),
    {
      method: "GET",
      path: "/app/*",
      open: true,
      handle: async (exchange) => {
        const path = MODULE.exec(exchange.path)?.[1];
        if (path === undefined) throw missing(exchange.path);
        await sendFile(exchange, "text/javascript; charset=utf-8", new URL(path, DIST));
      },
    },
  ];
}

async function sendFile(exchange: Exchange, type: string, url: URL): Promise<void> {
  let content: Buffer;
  try {
    content = await readFile(url);
  } catch {
    throw missing(exchange.path);
  }
  exchange.sendText(200, type, content, HEADERS);
}

function missing(path: string): StreamServeError {
  return new StreamServeError(
    "unknown_route",
    `There is no '${path.slice(0, 200)}' in this build: see docs/protocol.md.`,
  );
}
