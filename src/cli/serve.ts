import { withPlace } from "../config/load.js";
import { startServer } from "../gateway/server.js";
import { startTimes } from "../runtime/start-times.js";
import { configOf, type ServingOptions } from "./configuration.js";
import { fetchShown } from "./pull.js";

/** `streamserve serve`: the HTTP and WebSocket server, until a signal ends it. */

/** Resolves once the server has drained after SIGINT or SIGTERM; a second signal cancels what still runs. */
export async function serve(options: ServingOptions & { readonly timings?: boolean }): Promise<void> {
  const config = configOf(options);
  await fetchShown(config.model);
  const stopped = signalled();
  const server = await startServer(config).catch((error: unknown) => {
    throw withPlace(error, config);
  });
  const { model, instructionSet, threads, placement, kvTokens, contextTokens, pairs } = server.info;
  const readyMs = Math.round(performance.now());
  const { user, system } = process.cpuUsage();
  process.stdout.write(
    `${server.url} is ready: ${model}, ${instructionSet}, ${count(threads, "thread")} (${placement}), ${count(pairs, "pair")}, ` +
      `${kvTokens} tokens of KV, context ${contextTokens}; ${(readyMs / 1000).toFixed(2)} s from start\n`,
  );
  if (options.timings) {
    const parts = startTimes().map(({ part, ms }) => `${part} ${ms.toFixed(0)}`);
    const processor = ((user + system) / 1000).toFixed(0);
    process.stderr.write(`Milliseconds from start: ${parts.join(", ")}; processor time ${processor}\n`);
  }
  await stopped.first;
  process.stderr.write("Draining: running requests may end; press Ctrl-C again to cancel them\n");
  void stopped.second.then(() => server.close(0));
  await server.close();
}

/** Promises of the first and second request to stop. */
function signalled(): { readonly first: Promise<void>; readonly second: Promise<void> } {
  const waiting: (() => void)[] = [];
  const next = () => new Promise<void>((resolve) => waiting.push(resolve));
  const stops = { first: next(), second: next() };
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => waiting.shift()?.());
  }
  return stops;
}

function count(n: number, thing: string): string {
  return `${n} ${thing}${n === 1 ? "" : "s"}`;
}
