import type { MessagePort } from "node:worker_threads";
import type { Endpoint } from "comlink";
import adapter from "comlink/dist/umd/node-adapter.js";

/** A message port as comlink wants it. */
export function endpointOf(port: MessagePort): Endpoint {
  // The adapter's types describe a module with a default export; Node gives what the CommonJS file exports.
  const nodeEndpoint = adapter as unknown as typeof adapter.default;
  return nodeEndpoint(port);
}
