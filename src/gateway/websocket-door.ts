import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "./core.js";
import type { Guard } from "./guard.js";
import { declineUpgrade, pathOf, refuseSocket } from "./http-door.js";
import { asStreamServeError } from "./http-errors.js";
import { SUBPROTOCOL, WEBSOCKET_PATH } from "./websocket-messages.js";
import { CLOSE, WebSocketSession } from "./websocket-session.js";

/** Browsers can't set headers on a WebSocket: they offer the key as a second subprotocol, in base64url. */
const KEY_PREFIX = "streamserve.key.";

export interface WebSocketDoor {
  readonly open: number;
  /** Closes all sockets with 1001; their requests are cancelled. */
  close(): void;
  /** Cuts off the peers that have not answered the close. */
  cut(): void;
}

/** Adds the WebSocket door to an HTTP server: same port, same guards. */
export function attachWebSocketDoor(
  http: Server,
  core: ServingCore,
  server: Config["server"],
  guard: Guard,
): WebSocketDoor {
  const sessions = new Set<WebSocketSession>();
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: server.maxBodyBytes,
    handleProtocols: () => SUBPROTOCOL,
  });
  // Handshakes that RFC 6455 knows no such of: another version, a key that is none.
  sockets.on("wsClientError", ({ message }, stream) => {
    const sentence = `The WebSocket handshake is not valid: ${message}.`;
    const error = new StreamServeError("invalid_request", sentence);
    refuseSocket(stream as Socket, error, error.status, ["Sec-WebSocket-Version: 13"]);
  });
  http.on("upgrade", (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    if (request.headers.upgrade?.toLowerCase() !== "websocket") {
      declineUpgrade(http, request, stream as Socket, head);
      return;
    }
    // Without a listener a reset during the handshake would end the process.
    stream.on("error", () => stream.destroy());
    try {
      checkUpgrade(request, guard);
    } catch (thrown) {
      refuseSocket(stream as Socket, asStreamServeError(thrown));
      return;
    }
    sockets.handleUpgrade(request, stream, head, (socket) => {
      const session = new WebSocketSession(core, server, socket);
      sessions.add(session);
      socket.once("close", () => sessions.delete(session));
    });
  });
  return {
    get open() {
      return sessions.size;
    },
    close() {
      for (const session of sessions) session.close(CLOSE.goingAway, "draining");
    },
    cut() {
      for (const session of sessions) session.cut();
    },
  };
}

function checkUpgrade(request: IncomingMessage, guard: Guard): void {
  guard.checkSource(request);
  if (pathOf(request) !== WEBSOCKET_PATH) {
    throw new StreamServeError(
      "unknown_route",
      `There is no WebSocket at this path: connect to ${WEBSOCKET_PATH}.`,
    );
  }
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  const key = offered.find((name) => name.startsWith(KEY_PREFIX))?.slice(KEY_PREFIX.length);
  guard.checkKey(request, key === undefined ? undefined : Buffer.from(key, "base64url"));
  if (!offered.includes(SUBPROTOCOL)) {
    throw new StreamServeError(
      "invalid_request",
      `This server speaks the WebSocket subprotocol '${SUBPROTOCOL}' alone: ask for it.`,
    );
  }
}
