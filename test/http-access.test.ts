import { execFile } from "node:child_process";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { StreamServeClient } from "../dist/client/websocket-client.js";
import type { RunningServer } from "../dist/index.js";
import { chatBody, refusal, startTestServer } from "./serving.js";

/** A server with a key, an allowed origin and few sockets. */

const KEY = "süß & secret";
const PAGE = "https://chat.example";
let server: RunningServer;

beforeAll(async () => {
  server = await startTestServer({ server: { apiKey: KEY, allowedOrigins: [PAGE], maxSockets: 8 } });
});

afterAll(() => server.close(0));

const latin1 = (text: string): string => Buffer.from(text, "utf8").toString("latin1");

test("asks for the key, over HTTP and WebSocket, and takes it", async () => {
  for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: KEY.slice(0, 3) }]) {
    expect(await refusal(server.url, chatBody(), undefined, headers as Record<string, string>)).toMatchObject(
      {
        status: 401,
        code: "unauthorized",
      },
    );
  }
  for (const path of ["/v1/models", "/metrics", "/v1/trace"])
    expect((await fetch(server.url + path)).status).toBe(401);
  for (const path of ["/health", "/ready", "/"]) expect((await fetch(server.url + path)).status).toBe(200);
  const listed = await fetch(`${server.url}/v1/models`, {
    headers: { authorization: `Bearer ${latin1(KEY)}` },
  });
  expect(listed.status).toBe(200);

  await expect(StreamServeClient.connect(server.url)).rejects.toMatchObject({ code: "unauthorized" });
  await expect(StreamServeClient.connect(server.url, { apiKey: "wrong" })).rejects.toMatchObject({
    code: "unauthorized",
  });
  const client = await StreamServeClient.connect(server.url, { apiKey: KEY });
  expect(await client.complete({ prompt: "One", maxTokens: 1 }).text()).not.toBe("");
  await client.close();
});

test("the client tells why it was refused in a Node that has a WebSocket of its own, too", async () => {
  const program = `
    import { StreamServeClient } from ${JSON.stringify(new URL("../dist/client/websocket-client.js", import.meta.url))};
    await StreamServeClient.connect(${JSON.stringify(server.url)}, { apiKey: "wrong" })
      .catch(({ code }) => console.log(typeof WebSocket, code));`;
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...["--no-warnings", "--experimental-websocket", "--input-type=module"],
    ...["-e", program],
  ]);
  expect(stdout).toBe("function unauthorized\n");
});

test("lets pages of allowed origins in, with CORS headers, and no others", async () => {
  const preflight = (origin: string) =>
    fetch(`${server.url}/v1/chat/completions`, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-stainless-os",
      },
    });
  const allowed = await preflight(PAGE);
  expect(allowed.status).toBe(204);
  expect(allowed.headers.get("access-control-allow-origin")).toBe(PAGE);
  expect(allowed.headers.get("access-control-allow-headers")).toBe("x-stainless-os");
  const refused = await preflight("https://evil.example");
  expect(refused.status).toBe(403);
  expect(refused.headers.get("access-control-allow-origin")).toBeNull();

  const upgrade = async (origin: string): Promise<string> => {
    const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/stream`, ["streamserve.v1"], {
      headers: { origin, authorization: `Bearer ${latin1(KEY)}` },
    });
    return new Promise((resolve) => {
      socket.on("error", ({ message }) => resolve(message));
      socket.on("open", () => {
        socket.close();
        resolve("open");
      });
    });
  };
  expect(await upgrade(PAGE)).toBe("open");
  expect(await upgrade("https://evil.example")).toContain("403");
});

test("answers to the host of an allowed page, as a proxy hands it on", async () => {
  const asked = async (headers: Record<string, string>): Promise<string> => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET /health HTTP/1.1\r\n${lines.join("")}\r\n`);
    const [data] = (await once(socket, "data")) as [Buffer];
    socket.destroy();
    return String(data).split("\r\n", 1)[0]!;
  };
  expect(await asked({ Host: "chat.example" })).toBe("HTTP/1.1 200 OK");
  expect(await asked({ Host: "evil.example" })).toBe("HTTP/1.1 403 Forbidden");
});

test("tells connections beyond the limit to come later, and takes new ones when others have left", async () => {
  const { hostname, port } = new URL(server.url);
  const open: Socket[] = [];
  const dial = (): Socket => connect(Number(port), hostname);
  let answer = "";
  for (let i = 0; i < 12 && answer === ""; i++) {
    const socket = dial();
    open.push(socket);
    await once(socket, "connect");
    socket.write("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const [data] = (await once(socket, "data")) as [Buffer];
    if (String(data).startsWith("HTTP/1.1 503")) answer = String(data);
  }
  expect(answer).toContain('"code":"too_many_connections"');
  for (const socket of open) socket.destroy();
  await expect
    .poll(async () => (await fetch(`${server.url}/health`).catch(() => undefined))?.status)
    .toBe(200);
});
