import { once } from "node:events";
import { createServer } from "node:net";
import type { Config } from "../config/schema.js";
import { partDone } from "../runtime/start-times.js";
import type { LogEntry } from "../runtime/threads/system.js";
import { Guard } from "./guard.js";
import { listen } from "./listen.js";
import { openCore } from "./open-core.js";
import type { RunningServer } from "./running-server.js";

/**
 * Starts model, actors and the HTTP + WebSocket server. The doors' modules are loaded while the actors' threads start.
 * Throws `port_in_use`, `config_invalid` (an address other than loopback without a key), and what opening a
 * model throws.
 */
export async function startServer(config: Config): Promise<RunningServer> {
  const guard = new Guard(config.server);
  await probePort(config.server);
  // What is logged before there is a log waits for it.
  const early: LogEntry[] = [];
  let tell = (entry: LogEntry): void => void early.push(entry);
  const opening = openCore(config, (entry) => tell(entry));
  const loading = Promise.all([import("./log.js"), import("./serve-core.js")]);
  // Heard below; until then a failure must not count as unheard.
  loading.catch(() => undefined);
  const core = await opening;
  try {
    const [{ openLog }, { serveCore }] = await loading;
    const log = openLog();
    tell = ({ level, actor, text, fields }) => log[level]({ actor, ...fields }, text);
    for (const entry of early) tell(entry);
    const server = await serveCore(core, config, guard, log);
    partDone("doors");
    return server;
  } catch (error) {
    await core.close();
    throw error;
  }
}

/** Throws `port_in_use` before time is spent on a model. */
async function probePort(server: Config["server"]): Promise<void> {
  if (server.port === 0) return;
  const probe = createServer();
  await listen(probe, server);
  probe.close();
  await once(probe, "close");
}
