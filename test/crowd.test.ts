import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket } from "ws";
import { StreamServeClient } from "../dist/client/websocket-client.js";
import type { RunningServer } from "../dist/index.js";
import { blocks, metric, openAi, startTestServer } from "./serving.js";

/** 256 streams at once: some read nothing, some are cancelled, some cut; the others must not notice. */

const MODEL = "smollm2-135m-instruct";
const WELL = 160;
const EACH = 32;
const STALL_MS = 2_000;
/** Crowds after the first. Heaps grow in leaps, so that any one may end higher; a leak shows after every one. */
const MORE_CROWDS = 4;
/** What the least growing of them may add: 16 KiB a stream, less than the buffers of one. */
const GROWTH_BYTES = 4 * 2 ** 20;

let server: RunningServer;
let client: StreamServeClient;

beforeAll(async () => {
  server = await startTestServer({ server: { stallMs: STALL_MS }, runtime: { trace: false } });
  client = await StreamServeClient.connect(server.url, { windowTokens: 8 });
});

afterAll(async () => {
  await client.close();
  await server.close(0);
});

const prompts = [
  "The sea is",
  "One two three",
  "In the morning",
  "My cat",
  "Paris is",
  "He said",
  "Once",
  "Why not",
];
const asked = (i: number) => ({
  prompt: prompts[i % prompts.length]!,
  max_tokens: 12,
  temperature: 0.8,
  seed: i % 16,
});
const endless = (i: number) => ({
  ...asked(i),
  model: MODEL,
  max_tokens: 400,
  ignore_eos: true,
  stream: true as const,
});

/** A stream that is read to its end, over HTTP or WebSocket. */
async function well(i: number): Promise<string> {
  const { prompt, max_tokens, temperature, seed } = asked(i);
  if (i % 2 === 0) return client.complete({ prompt, maxTokens: max_tokens, temperature, seed }).text();
  let text = "";
  const stream = await openAi(server).completions.create({ ...asked(i), model: MODEL, stream: true });
  for await (const { choices } of stream) text += choices[0]?.text ?? "";
  return text;
}

/** A WebSocket reader that grants two tokens and no more; it is told `slow_reader`. */
async function still(i: number): Promise<string> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/stream`, ["streamserve.v1"]);
  await once(socket, "open");
  const { prompt, temperature, seed } = asked(i);
  socket.send(
    JSON.stringify({
      type: "generate",
      id: "x",
      prompt,
      temperature,
      seed,
      max_tokens: 400,
      ignore_eos: true,
      credit: 2,
    }),
  );
  for (;;) {
    const [data] = (await once(socket, "message")) as [Buffer];
    const message = JSON.parse(String(data));
    if (message.type !== "error") continue;
    socket.close();
    return message.code;
  }
}

/** A bare HTTP connection that is cut after its first bytes. */
async function cut(i: number): Promise<void> {
  const { hostname, port } = new URL(server.url);
  const socket: Socket = connect(Number(port), hostname);
  const body = JSON.stringify(endless(i));
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await once(socket, "data");
  socket.destroy();
}

/** A generation that its client cancels after the first delta. */
async function cancelled(i: number): Promise<void> {
  const { prompt, seed } = asked(i);
  for await (const delta of client.complete({ prompt, seed, maxTokens: 400, ignoreEos: true })) {
    expect(delta.index).toBe(0);
    break;
  }
}

async function crowd(): Promise<string[]> {
  const several = <T>(count: number, one: (i: number) => Promise<T>): Promise<T>[] =>
    Array.from({ length: count }, (_, i) => one(i));
  const others = [...several(EACH, cut), ...several(EACH, cancelled)];
  const stills = several(EACH, still);
  const texts = await Promise.all(several(WELL, well));
  await Promise.all(others);
  for (const code of await Promise.all(stills)) expect(code).toBe("slow_reader");
  return texts;
}

/** Resident memory without what the collector could take. */
const collect: () => void = (() => {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc");
})();
function resident(): number {
  collect();
  return process.memoryUsage().rss;
}

/** Waits until nothing runs; then every block is free or cached. */
async function settled(): Promise<void> {
  await expect.poll(() => metric(server.url, "vllm:num_requests_running"), { timeout: 10_000 }).toBe(0);
  await expect.poll(async () => (await blocks(server.url)).used, { timeout: 10_000 }).toBe(0);
  const { total, free, cached } = await blocks(server.url);
  expect(free + cached).toBe(total);
}

test("256 streams, 96 of them troubled: the others get the tokens they get alone; no block, no memory leaks", {
  timeout: 180_000,
}, async () => {
  const alone: string[] = [];
  for (let i = 0; i < 16; i++) alone.push(await well(i));
  const expected = Array.from({ length: WELL }, (_, i) => alone[i % 16]);

  expect(await crowd()).toEqual(expected);
  await settled();
  const growths: number[] = [];
  for (let before = resident(), i = 0; i < MORE_CROWDS; i++) {
    expect(await crowd()).toEqual(expected);
    await settled();
    const after = resident();
    growths.push(after - before);
    before = after;
  }
  expect(Math.min(...growths)).toBeLessThan(GROWTH_BYTES);
  expect(await metric(server.url, "streamserve_dead_letters_total")).toBe(0);
  expect(await metric(server.url, "streamserve_actor_restarts_total")).toBe(0);
  const ended = await metric(server.url, "vllm:request_success_total");
  expect(ended).toBe(16 + (1 + MORE_CROWDS) * (WELL + 3 * EACH));
});
