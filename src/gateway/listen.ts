import { once } from "node:events";
import type { Server as TcpServer } from "node:net";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";

/** Listens as configured. Throws `port_in_use` or `config_invalid`. */
export async function listen(door: TcpServer, { host, port }: Config["server"]): Promise<void> {
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
