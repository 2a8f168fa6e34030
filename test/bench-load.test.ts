import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { drawOrder, poissonArrivals, seededRandom } from "../dist/bench/load/arrivals.js";
import { drive } from "../dist/bench/load/drive.js";
import type { LoadResults } from "../dist/bench/load/findings.js";
import type { Report } from "../dist/bench/report.js";

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function serve(answer: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  server = createServer((request, response) => {
    if (request.url === "/v1/models") response.end(JSON.stringify({ data: [{ id: "tiny" }] }));
    else answer(request, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function readBody(request: IncomingMessage): Promise<Record<string, unknown>> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString()) as Record<string, unknown>;
}

/** Streams `tokens` tokens, two an event, in pieces cut inside lines and characters. */
function streamAnswer(response: ServerResponse, tokens: number): void {
  const events = Array.from({ length: tokens / 2 }, () => ({ choices: [{ delta: { content: "é" } }] }));
  const usage = { choices: [], usage: { prompt_tokens: 11, completion_tokens: tokens } };
  const stream = [...events, usage].map((value) => `data: ${JSON.stringify(value)}\r\n\r\n`).join("");
  const bytes = Buffer.from(`${stream}data: [DONE]\r\n\r\n`);
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (let at = 0; at < bytes.length; at += 13) response.write(bytes.subarray(at, at + 13));
  response.end();
}

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function bench(...args: string[]): Promise<Ended> & { interrupt(): void } {
  let interrupt = () => {};
  const ended = new Promise<Ended>((resolve) => {
    const child = execFile(process.execPath, ["dist/cli/main.js", "bench", ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
    interrupt = () => child.kill("SIGINT");
  });
  return Object.assign(ended, { interrupt });
}

function readResults(run: Ended): LoadResults {
  return (JSON.parse(run.stdout) as Report).results as LoadResults;
}

test("a run sends matched requests, keeps to its concurrency and reports every token", async () => {
  const bodies: Record<string, unknown>[] = [];
  let running = 0;
  let most = 0;
  const url = await serve(async (request, response) => {
    most = Math.max(most, ++running);
    response.on("close", () => running--);
    bodies.push(await readBody(request));
    streamAnswer(response, Number(bodies[bodies.length - 1]!.max_tokens));
  });
  const run = await bench(
    "load",
    "--url",
    url,
    "--dataset",
    "sum",
    "--requests",
    "30",
    "--concurrency",
    "4",
    "--max-tokens",
    "16",
    "--warmup",
    "1",
    "--json",
    "-",
  );
  expect(run.stderr).toBe("");
  expect(run.code).toBe(0);
  const results = readResults(run);
  expect(results).toMatchObject({
    requests: 30,
    completed: 30,
    failed: 0,
    unsent: 0,
    promptTokens: 330,
    outputTokens: 480,
    tokensPerEvent: 2,
    attained: 1,
    errors: {},
  });
  expect(results.ttftMs.count).toBe(30);
  expect(results.ttftMs.p99).toBeLessThanOrEqual(results.latencyMs.max);
  expect(most).toBeLessThanOrEqual(4);
  expect(bodies).toHaveLength(31);
  for (const body of bodies.slice(1)) {
    expect(body).toMatchObject({
      model: "tiny",
      max_tokens: 16,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    });
  }
  expect(new Set(bodies.slice(1).map((body) => JSON.stringify(body.messages))).size).toBe(30);
});

test("failures are counted by code and leave exit code 1", async () => {
  let count = 0;
  const url = await serve((_, response) => {
    count += 1;
    if (count % 3 === 0) {
      response.writeHead(503).end(JSON.stringify({ error: { code: "overloaded", message: "Full." } }));
    } else if (count % 3 === 1) {
      response
        .writeHead(200)
        .write('data: {"choices":[{"delta":{"content":"x"}}]}\n\n', () => response.destroy());
    } else {
      streamAnswer(response, 8);
    }
  });
  const run = await bench(
    "load",
    "--url",
    url,
    "--requests",
    "9",
    "--concurrency",
    "1",
    "--max-tokens",
    "8",
    "--warmup",
    "0",
    "--json",
    "-",
  );
  expect(run.code).toBe(1);
  const results = readResults(run);
  expect(results).toMatchObject({ completed: 3, failed: 6, attained: 1 / 3 });
  expect(results.errors["HTTP 503 overloaded"]).toEqual({ count: 3, example: "Full." });
  expect(Object.values(results.errors).map((error) => error.count)).toEqual([3, 3]);
});

test("an interrupt ends the run and prints what there is", async () => {
  let count = 0;
  let run: ReturnType<typeof bench> | undefined;
  const url = await serve((_, response) => {
    count += 1;
    if (count <= 2) streamAnswer(response, 8);
    else run?.interrupt();
  });
  run = bench(
    "load",
    "--url",
    url,
    "--requests",
    "10",
    "--concurrency",
    "1",
    "--max-tokens",
    "8",
    "--warmup",
    "0",
    "--json",
    "-",
  );
  expect(readResults(await run)).toMatchObject({ completed: 2, failed: 1, unsent: 7 });
});

test("answers shorter than asked for are pointed out", async () => {
  const url = await serve((_, response) => streamAnswer(response, 8));
  const run = await bench("load", "--url", url, "--requests", "3", "--max-tokens", "16", "--warmup", "0");
  expect(run.stdout).toContain("3 answers are not 16 tokens long");
});

test("a server that is not there is one sentence", async () => {
  const url = await serve(() => {});
  server?.close();
  await once(server!, "close");
  const run = await bench("load", "--url", url);
  expect(run.code).toBe(1);
  expect(run.stdout).toBe("");
  expect(run.stderr).toMatch(/^No server answers at http:\S+ \(ECONNREFUSED\): start one .*\n$/);
});

test.each([
  [["load"], "--url"],
  [["load", "--url", "nonsense"], "is not a URL"],
  [["load", "--url", "ftp://127.0.0.1"], "neither http nor https"],
  [["load", "--url", "http://127.0.0.1", "--requests", "1e3"], "whole number from 1"],
  [["load", "--url", "http://127.0.0.1", "--rate", "NaN"], "number above 0"],
  [["load", "--url", "http://127.0.0.1", "--dataset", "poems"], "Allowed choices"],
  [["plot", "absent.json"], "can't be read"],
  [["plot", "package.json"], "holds no figures"],
  [["fly"], "unknown command"],
])("wrong arguments are refused before anything is sent: %j", async (args, message) => {
  const run = await bench(...args);
  expect(run.code).toBe(1);
  expect(run.stderr).toContain(message);
  expect(run.stderr).not.toContain("    at ");
});

test("late requests count their wait: a slow server can't hide behind its client", async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const due: number[] = [];
  const run = drive(
    3,
    1,
    [0, 0, 0],
    async (index, dueMs) => {
      due.push(dueMs);
      if (index === 0) await held;
      return { ok: false, code: "x", message: "" };
    },
    new AbortController().signal,
  );
  release();
  await run;
  expect(new Set(due).size).toBe(1);
});

test("orders and arrivals repeat with their seed; arrivals have the rate asked for", () => {
  const arrivals = (seed: number) => poissonArrivals(4000, 20, seededRandom(seed));
  expect(arrivals(3)).toEqual(arrivals(3));
  expect(arrivals(3)).not.toEqual(arrivals(4));
  const offsets = arrivals(3);
  expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
  expect((4000 * 1000) / offsets[3999]!).toBeGreaterThan(18);
  expect((4000 * 1000) / offsets[3999]!).toBeLessThan(22);
  const order = drawOrder([..."abcdefgh"], 20, seededRandom(1));
  expect([...order.slice(0, 8)].sort().join("")).toBe("abcdefgh");
  expect(order.slice(8, 16)).toEqual(order.slice(0, 8));
});
