import { once } from "node:events";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RawData, WebSocket } from "ws";
import { StreamServeClient } from "../dist/client/websocket-client.js";
import { type RunningServer, StreamServeError } from "../dist/index.js";
import { metric, openAi, startTestServer } from "./serving.js";

/** The WebSocket door, tried by the client of this package and by bare sockets. */

interface Message {
  readonly type: string;
  readonly id?: string;
  readonly [field: string]: unknown;
}

const STALL_MS = 400;
let server: RunningServer;

beforeAll(async () => {
  server = await startTestServer({
    server: { maxBodyBytes: 1 << 20, stallMs: STALL_MS, maxRequestsPerSocket: 16 },
  });
});

afterAll(() => server.close(0));

/** A bare socket: sends what it is told, keeps what it gets. */
class Bare {
  readonly messages: Message[] = [];
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  #waiting: (() => void)[] = [];

  private constructor(readonly socket: WebSocket) {
    socket.on("message", (data: RawData) => {
      this.messages.push(JSON.parse(String(data)));
      for (const wake of this.#waiting.splice(0)) wake();
    });
    this.closed = new Promise((resolve) =>
      socket.on("close", (code, reason) => resolve({ code, reason: String(reason) })),
    );
    socket.on("error", () => {});
  }

  static async connect(protocols: string[] = ["streamserve.v1"], { url } = server): Promise<Bare> {
    const socket = new WebSocket(`${url.replace("http", "ws")}/v1/stream`, protocols);
    const bare = new Bare(socket);
    await once(socket, "open");
    return bare;
  }

  send(...messages: object[]): void {
    for (const message of messages) this.socket.send(JSON.stringify(message));
  }

  /** The first message that fits, past or to come. */
  async find(fits: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.messages.find(fits);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  of(id: string, type: string): Message[] {
    return this.messages.filter((message) => message.id === id && message.type === type);
  }
}

const is =
  (type: string, id: string) =>
  (message: Message): boolean =>
    message.type === type && message.id === id;

const long = { type: "generate", prompt: "The sea", max_tokens: 100, ignore_eos: true, temperature: 0 };
const short = { ...long, max_tokens: 6 };

test("readers that take nothing hold back nobody: they give way to others, and go on when they read", async () => {
  const small = await startTestServer({ engine: { kvTokens: 1024 }, scheduler: { idleReaderMs: 100 } });
  try {
    await using slow = await StreamServeClient.connect(small.url, { windowTokens: 4 });
    await using other = await StreamServeClient.connect(small.url);
    const asked = { prompt: "The sea", maxTokens: 200, ignoreEos: true, temperature: 0 };
    const idle = Array.from({ length: 8 }, () => slow.complete(asked));
    // All begin, although four fill the pool; each is read once.
    const firsts = await Promise.all(
      idle.map(async (generation) => ((await generation.next()).value as { readonly text: string }).text),
    );
    const { text, timings } = await other.complete({ ...asked, maxTokens: 60 }).completion();
    expect(timings.queuedMs).toBeLessThan(10_000);
    const rests = await Promise.all(idle.map((generation) => generation.text()));
    const wholes = firsts.map((first, i) => first + rests[i]);
    expect(new Set(wholes).size).toBe(1);
    expect(wholes[0]?.startsWith(text)).toBe(true);
    expect(idle.map(({ ending }) => ending?.usage.outputTokens)).toEqual(Array(8).fill(200));
    expect(await metric(small.url, "streamserve_kv_blocks_used")).toBe(0);
  } finally {
    await small.close(0);
  }
});

test("a reader that gave way and never reads fails as others do, and may be cancelled", async () => {
  const small = await startTestServer({
    server: { stallMs: 1500 },
    engine: { kvTokens: 512 },
    scheduler: { idleReaderMs: 50 },
  });
  try {
    await using slow = await StreamServeClient.connect(small.url, { windowTokens: 4 });
    const asked = { prompt: "The sea", maxTokens: 400, ignoreEos: true };
    const idle = Array.from({ length: 3 }, () => slow.complete(asked));
    await Promise.all(idle.map((generation) => generation.next()));
    idle[1]?.cancel();
    await expect(idle[1]?.text()).rejects.toMatchObject({ code: "cancelled" });
    // What was sent ahead is still there to be read.
    for (const generation of [idle[0], idle[2]]) {
      await expect
        .poll(() => generation && (generation as unknown as { settled: boolean }).settled)
        .toBe(true);
      await expect(generation?.text()).rejects.toMatchObject({ code: "slow_reader" });
    }
    await expect.poll(() => metric(small.url, "streamserve_kv_blocks_used")).toBe(0);
    await expect.poll(() => metric(small.url, "vllm:num_requests_running")).toBe(0);
  } finally {
    await small.close(0);
  }
});

describe("the client", () => {
  test("reads many generations over one socket, each the text that HTTP gives", async () => {
    await using client = await StreamServeClient.connect(server.url, { windowTokens: 4 });
    const prompts = ["The sea is", "One two three", "In the morning", "My cat"];
    const texts = await Promise.all(
      prompts.map((prompt) => client.complete({ prompt, maxTokens: 12, temperature: 0 }).text()),
    );
    for (const [i, prompt] of prompts.entries()) {
      const { choices } = await openAi(server).completions.create({
        model: "smollm2-135m-instruct",
        prompt,
        max_tokens: 12,
        temperature: 0,
      });
      expect(texts[i]).toBe(choices[0]?.text);
    }
  });

  test("gives text, log-probabilities, usage and timings at the end", async () => {
    await using client = await StreamServeClient.connect(server.url);
    const messages = [{ role: "user" as const, content: "Hello!" }];
    const { text, logprobs, finish, usage, timings } = await client
      .chat({ messages, maxTokens: 8, temperature: 0, logprobs: 2, ignoreEos: true })
      .completion();
    expect(logprobs).toHaveLength(8);
    expect(logprobs[0]?.top).toHaveLength(2);
    expect(Buffer.from(logprobs.flatMap(({ bytes }) => [...bytes])).toString()).toBe(text);
    expect(finish).toBe("length");
    expect(usage.outputTokens).toBe(8);
    expect(timings.firstTokenMs).toBeLessThanOrEqual(timings.totalMs);
  });

  test("throws typed errors, and the socket lives on", async () => {
    await using client = await StreamServeClient.connect(server.url);
    const failure = await client
      .chat({ messages: [] })
      .completion()
      .catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StreamServeError);
    expect(failure).toMatchObject({ code: "empty_prompt", details: { param: "messages" } });
    await expect(client.complete({ prompt: "a", temperature: 9 }).text()).rejects.toMatchObject({
      code: "invalid_parameter",
    });
    expect(await client.complete({ prompt: "One", maxTokens: 2, temperature: 0 }).text()).not.toBe("");
  });

  test("refuses what is no address and what is no window before it connects", async () => {
    for (const url of ["nonsense", "ftp://127.0.0.1", ""]) {
      await expect(StreamServeClient.connect(url)).rejects.toMatchObject({
        code: "invalid_parameter",
        details: { param: "url" },
      });
    }
    for (const windowTokens of [0, -1, Number.NaN, 1.5]) {
      await expect(StreamServeClient.connect(server.url, { windowTokens })).rejects.toMatchObject({
        code: "invalid_parameter",
        details: { param: "windowTokens" },
      });
    }
  });

  test("throws what can't be sent from the iteration, and names a message that is too large", async () => {
    await using client = await StreamServeClient.connect(server.url);
    for (const options of [undefined, { prompt: undefined }, { prompt: "a", seed: 1n }]) {
      const generation = client.complete(options as never);
      await expect(generation.text()).rejects.toMatchObject({ code: "invalid_parameter" });
    }
    expect(await client.complete({ prompt: "One", maxTokens: 1 }).text()).not.toBe("");
    const beside = client.complete({ prompt: "The sea", maxTokens: 2000, ignoreEos: true });
    await beside.next();
    const large = client.complete({ prompt: "x".repeat(1 << 20) });
    for (const generation of [large, beside]) {
      await expect(generation.text()).rejects.toMatchObject({
        code: "body_too_large",
        message: expect.stringContaining("server.maxBodyBytes"),
      });
    }
  });

  test("cancels by signal, by leaving the loop and by closing; the server lets go", async () => {
    const client = await StreamServeClient.connect(server.url);
    const options = { prompt: "The sea", maxTokens: 2000, ignoreEos: true };
    const abort = new AbortController();
    const aborted = client.complete({ ...options, signal: abort.signal });
    await aborted.next();
    abort.abort();
    await expect(aborted.text()).rejects.toMatchObject({ code: "cancelled" });
    for await (const delta of client.complete(options)) {
      expect(delta.index).toBe(0);
      break;
    }
    const left = client.complete(options);
    await left.next();
    await client.close();
    await expect(left.text()).rejects.toMatchObject({ code: "cancelled" });
    await expect.poll(() => metric(server.url, "vllm:num_requests_running")).toBe(0);
    await expect.poll(() => metric(server.url, "streamserve_kv_blocks_used")).toBe(0);
  });
});

describe("credit", () => {
  test("is never overdrawn, and a stream goes on where it stood", async () => {
    const bare = await Bare.connect();
    bare.send({ ...long, id: "a", credit: 5 }, { ...short, id: "b" });
    await bare.find(is("done", "b"));
    const sent = (): number => bare.of("a", "delta").reduce((sum, { tokens }) => sum + Number(tokens), 0);
    await bare.find(({ id, index, tokens }) => id === "a" && Number(index) + Number(tokens) === 5);
    bare.send({ type: "credit", id: "a", tokens: 3 });
    await bare.find(({ id, index, tokens }) => id === "a" && Number(index) + Number(tokens) === 8);
    expect(sent()).toBe(8);
    bare.send({ type: "credit", id: "a", tokens: 2 ** 30 });
    await bare.find(is("done", "a"));
    let next = 0;
    for (const { index, tokens } of bare.of("a", "delta")) {
      expect(index).toBe(next);
      next += Number(tokens);
    }
    expect(next).toBe(100);
    bare.socket.close();
  });

  test("that does not come costs the request alone: slow_reader", async () => {
    const bare = await Bare.connect();
    bare.send({ ...long, id: "slow", credit: 2 });
    const error = await bare.find(is("error", "slow"));
    expect(error).toMatchObject({ code: "slow_reader", ends: "request" });
    bare.send({ ...short, id: "next" });
    await bare.find(is("done", "next"));
    await expect.poll(() => metric(server.url, "streamserve_kv_blocks_used")).toBe(0);
    bare.socket.close();
  });
});

test("a client that asks without reading is not listened to, until it reads", async () => {
  const patient = await startTestServer();
  const bare = await Bare.connect(["streamserve.v1"], patient);
  bare.socket.pause();
  // Each is answered by some hundred bytes: 60 MB, were all of them taken.
  const pair = [
    { type: "generate", id: "x".repeat(120), prompt: "a", max_tokens: 1, credit: 0 },
    { type: "cancel", id: "x".repeat(120) },
  ];
  let sent = 0;
  let held = false;
  while (!held && sent < 200_000) {
    bare.send(...pair);
    sent++;
    // Client and server share this thread: what is not taken in so many turns is not wanted.
    let turns = 0;
    while (bare.socket.bufferedAmount > 1 << 20 && turns++ < 2000) await new Promise(setImmediate);
    held = turns > 2000;
  }
  expect(held).toBe(true);
  bare.socket.resume();
  await expect.poll(() => bare.of(pair[0]!.id, "error").length, { timeout: 30_000 }).toBe(sent);
  bare.socket.close();
  await patient.close(0);
});

describe("a violation", () => {
  test.each([
    ["no JSON", "{", { code: "invalid_json", ends: "nothing" }],
    ["an array", "[]", { code: "invalid_message", ends: "nothing" }],
    ["no type", "{}", { code: "unknown_message", ends: "nothing" }],
    ["an unknown type", '{"type": "generete", "id": "x"}', { code: "unknown_message", ends: "nothing" }],
    [
      "no id",
      '{"type": "generate", "prompt": "a"}',
      { code: "invalid_parameter", param: "id", ends: "nothing" },
    ],
    ["credit without an id", '{"type": "credit", "tokens": 1}', { code: "invalid_parameter", param: "id" }],
    [
      "a cancel with a field",
      '{"type": "cancel", "id": "x", "y": 1}',
      { code: "invalid_message", ends: "nothing" },
    ],
    [
      "a message of the server's",
      '{"type": "done", "id": "x"}',
      { code: "unknown_message", ends: "nothing" },
    ],
    [
      "ids outside the vocabulary",
      '{"type": "generate", "id": "x", "prompt": [49152]}',
      { code: "invalid_parameter", param: "prompt", ends: "request" },
    ],
    [
      "credit before generate",
      '{"type": "credit", "id": "x", "tokens": 1}',
      { code: "unknown_request", id: "x", ends: "nothing" },
    ],
    [
      "cancel before generate",
      '{"type": "cancel", "id": "x"}',
      { code: "unknown_request", id: "x", ends: "nothing" },
    ],
    ["no prompt", '{"type": "generate", "id": "x"}', { code: "invalid_parameter", id: "x", ends: "request" }],
    [
      "no messages",
      '{"type": "generate", "id": "x", "messages": []}',
      { code: "empty_prompt", id: "x", ends: "request" },
    ],
    [
      "a wrong type",
      '{"type": "generate", "id": "x", "prompt": 5}',
      { code: "invalid_parameter", param: "prompt", ends: "request" },
    ],
    [
      "a number out of range",
      '{"type": "generate", "id": "x", "prompt": "a", "top_p": 7}',
      { code: "invalid_parameter", param: "top_p", ends: "request" },
    ],
    [
      "an unknown field",
      '{"type": "generate", "id": "x", "prompt": "a", "zip": 1}',
      { code: "invalid_parameter", param: "zip", ends: "request" },
    ],
    [
      "an unknown model",
      '{"type": "generate", "id": "x", "prompt": "a", "model": "m"}',
      { code: "unknown_model", id: "x", ends: "request" },
    ],
    [
      "negative credit at the start",
      '{"type": "generate", "id": "x", "prompt": "a", "credit": -1}',
      { code: "invalid_parameter", param: "credit", ends: "request" },
    ],
    [
      "half a surrogate pair",
      '{"type": "generate", "id": "x", "prompt": "\\ud800"}',
      { code: "invalid_utf8", param: "prompt", ends: "request" },
    ],
    [
      "a prompt that does not fit",
      JSON.stringify({ type: "generate", id: "x", prompt: "word ".repeat(9000) }),
      { code: "prompt_too_long", id: "x", ends: "request" },
    ],
  ])("%s is told, and another stream runs on", async (_what, text, expected) => {
    const bare = await Bare.connect();
    bare.send({ ...short, id: "other" });
    bare.socket.send(text);
    const error = await bare.find(({ type }) => type === "error");
    expect(error).toMatchObject(expected);
    expect(String(error.message)).toMatch(/^.{10,}\.$/s);
    await bare.find(is("done", "other"));
    bare.socket.close();
  });

  test("a duplicate id leaves the open request alone; a wrong credit ends it", async () => {
    const bare = await Bare.connect();
    bare.send({ ...long, id: "a", credit: 3 }, { ...short, id: "a" });
    expect(await bare.find(is("error", "a"))).toMatchObject({ code: "duplicate_request", ends: "nothing" });
    bare.send({ type: "credit", id: "a", tokens: -4 });
    const wrong = ({ code }: Message): boolean => code === "invalid_credit";
    expect(await bare.find(wrong)).toMatchObject({ id: "a", ends: "request" });
    // Its id is free again, and late credit for it is no error.
    bare.send({ type: "credit", id: "a", tokens: 1 }, { ...short, id: "a" });
    await bare.find(is("done", "a"));
    expect(bare.of("a", "error")).toHaveLength(2);
    bare.socket.close();
  });

  test("more requests than a socket may have open", async () => {
    const bare = await Bare.connect();
    for (let i = 0; i < 17; i++) bare.send({ ...long, id: String(i), credit: 0 });
    expect(await bare.find(({ type }) => type === "error")).toMatchObject({ id: "16", code: "overloaded" });
    bare.socket.close();
  });

  test("binary, broken UTF-8, oversized and too many end the socket with their codes", async () => {
    const closes = async (act: (socket: WebSocket) => void): Promise<number> => {
      const bare = await Bare.connect();
      act(bare.socket);
      return (await bare.closed).code;
    };
    expect(await closes((socket) => socket.send(Buffer.from([1, 2, 3])))).toBe(1003);
    expect(await closes((socket) => socket.send(Buffer.from([0xc3, 0x28]), { binary: false }))).toBe(1007);
    expect(await closes((socket) => socket.send("x".repeat(2 << 20)))).toBe(1009);
    const nonsense = (socket: WebSocket): void => {
      for (let i = 0; i < 70; i++) socket.send("nonsense");
    };
    expect(await closes(nonsense)).toBe(1008);
  });

  test("a handshake without the subprotocol, or at another path, is refused", async () => {
    const refused = async (path: string, protocols: string[]): Promise<number> => {
      const socket = new WebSocket(server.url.replace("http", "ws") + path, protocols);
      const [, response] = (await once(socket, "unexpected-response")) as [
        unknown,
        { statusCode: number; destroy(): void },
      ];
      response.destroy();
      socket.on("error", () => {});
      return response.statusCode;
    };
    expect(await refused("/v1/stream", [])).toBe(400);
    expect(await refused("/v1/stream", ["other"])).toBe(400);
    expect(await refused("/v1/other", ["streamserve.v1"])).toBe(404);
  });

  test("any messages in any order, without harm to a stream beside them", async () => {
    const id = fc.constantFrom("p", "q", "", 7);
    const message = fc.oneof(
      fc.record({
        type: fc.constantFrom("credit", "cancel"),
        id,
        tokens: fc.oneof(fc.integer(), fc.double()),
      }),
      fc.record({
        type: fc.constant("generate"),
        id,
        prompt: fc.constantFrom("a", "", 1),
        max_tokens: fc.integer({ min: -1, max: 2 }),
        credit: fc.integer({ min: -1, max: 4 }),
      }),
      fc.jsonValue({ maxDepth: 2 }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(message, { maxLength: 12 }), async (messages) => {
        const bare = await Bare.connect();
        for (const sent of messages) bare.socket.send(JSON.stringify(sent));
        bare.send({ ...short, id: "still here", max_tokens: 1 });
        await bare.find(is("done", "still here"));
        for (const error of bare.messages.filter(({ type }) => type === "error")) {
          expect(error.code).not.toBe("internal");
        }
        bare.socket.close();
        await bare.closed;
      }),
      { numRuns: 30 },
    );
    await expect.poll(() => metric(server.url, "streamserve_kv_blocks_used")).toBe(0);
  });
});

test("a server that closes does not wait for a peer that answers nothing", async () => {
  const other = await startTestServer();
  const socket = new WebSocket(`${other.url.replace("http", "ws")}/v1/stream`, "streamserve.v1");
  await once(socket, "open");
  socket.pause();
  const began = performance.now();
  await other.close(0);
  // ws itself gives the closing handshake 30 s.
  expect(performance.now() - began).toBeLessThan(15_000);
  socket.terminate();
});
