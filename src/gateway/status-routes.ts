import type { ServingCore } from "./core.js";
import type { Exchange } from "./exchange.js";
import type { Route } from "./http-door.js";
import type { Metrics } from "./metrics.js";
import { checkModel, modelCard } from "./models.js";

const MODELS = "/v1/models";

/** What is served, and how it is doing. */
export function statusRoutes(core: ServingCore, metrics: Metrics, draining: () => boolean): Route[] {
  const created = Math.floor(Date.now() / 1000);
  const oneModel = (exchange: Exchange): void => {
    checkModel(core.service.info, decode(exchange.path.slice(MODELS.length + 1)));
    exchange.sendJson(200, modelCard(core.service.info, created));
  };
  return [
    {
      method: "GET",
      path: MODELS,
      handle: (exchange) =>
        exchange.sendJson(200, { object: "list", data: [modelCard(core.service.info, created)] }),
    },
    { method: "GET", path: `${MODELS}/*`, handle: oneModel },
    { method: "GET", path: "/health", open: true, handle: answer(() => (core.alive() ? "ok" : "failed")) },
    {
      method: "GET",
      path: "/ready",
      open: true,
      handle: answer(() => (draining() ? "draining" : core.alive() ? "ready" : "failed")),
    },
    {
      method: "GET",
      path: "/metrics",
      handle: async (exchange) => exchange.sendText(200, metrics.contentType, await metrics.text()),
    },
  ];
}

/** 200 while all is well, 503 otherwise. */
function answer(status: () => "ok" | "ready" | "draining" | "failed"): Route["handle"] {
  return (exchange) => {
    const word = status();
    exchange.sendJson(word === "ok" || word === "ready" ? 200 : 503, { status: word });
  };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
