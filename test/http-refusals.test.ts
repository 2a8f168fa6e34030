import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { connect, createServer } from "node:net";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningServer } from "../dist/index.js";
import { chatBody, MODEL, metric, openAi, refusal, startTestServer } from "./serving.js";

/** What must not come in through the HTTP door, while another stream runs on unharmed. */

let server: RunningServer;
let unharmed: Promise<string>;
let undisturbed: string;

const running = { ...chatBody(), model: MODEL, max_tokens: 200, ignore_eos: true, stream: true as const };

async function streamed(): Promise<string> {
  let text = "";
  const stream = await openAi(server).chat.completions.create(running as never);
  for await (const chunk of stream as unknown as AsyncIterable<{
    choices: { delta: { content?: string } }[];
  }>) {
    text += chunk.choices[0]?.delta.content ?? "";
  }
  return text;
}

beforeAll(async () => {
  server = await startTestServer({ server: { maxBodyBytes: 1 << 20 } });
  undisturbed = await streamed();
  unharmed = streamed();
});

afterAll(async () => {
  expect(await unharmed).toBe(undisturbed);
  await server.close(0);
});

const user = (content: unknown) => [{ role: "user", content }];

describe("a body that is refused", () => {
  test.each([
    ["no messages", chatBody({ messages: [] }), 400, "empty_prompt", "messages"],
    ["messages missing", { model: MODEL }, 400, "invalid_parameter", "messages"],
    ["messages of a wrong type", chatBody({ messages: "hello" }), 400, "invalid_parameter", "messages"],
    [
      "content of a wrong type",
      chatBody({ messages: user(5) }),
      400,
      "invalid_parameter",
      "messages[0].content",
    ],
    [
      "an unknown role",
      chatBody({ messages: [{ role: "king", content: "" }] }),
      400,
      "invalid_parameter",
      "messages[0].role",
    ],
    [
      "an image",
      chatBody({ messages: user([{ type: "image_url", image_url: { url: "" } }]) }),
      400,
      "invalid_parameter",
      "messages[0].content",
    ],
    [
      "half a surrogate pair",
      chatBody({ messages: user("\ud83d") }),
      400,
      "invalid_utf8",
      "messages[0].content",
    ],
    [
      "a temperature of a wrong type",
      chatBody({ temperature: "hot" }),
      400,
      "invalid_parameter",
      "temperature",
    ],
    ["a temperature out of range", chatBody({ temperature: 2.5 }), 400, "invalid_parameter", "temperature"],
    ["top_p of 0", chatBody({ top_p: 0 }), 400, "invalid_parameter", "top_p"],
    [
      "a penalty out of range",
      chatBody({ presence_penalty: -3 }),
      400,
      "invalid_parameter",
      "presence_penalty",
    ],
    ["max_tokens of 0", chatBody({ max_tokens: 0 }), 400, "invalid_parameter", "max_tokens"],
    ["max_tokens of 1.5", chatBody({ max_tokens: 1.5 }), 400, "invalid_parameter", "max_tokens"],
    ["a seed that is no whole number", chatBody({ seed: 0.5 }), 400, "invalid_parameter", "seed"],
    ["five stop strings", chatBody({ stop: ["a", "b", "c", "d", "e"] }), 400, "invalid_parameter", "stop"],
    ["an empty stop string", chatBody({ stop: "" }), 400, "invalid_parameter", "stop"],
    ["a bias for a word", chatBody({ logit_bias: { yes: 1 } }), 400, "invalid_parameter", "logit_bias.yes"],
    [
      "a bias for no token",
      chatBody({ logit_bias: { "99999999": 1 } }),
      400,
      "invalid_parameter",
      "logit_bias",
    ],
    [
      "top_logprobs without logprobs",
      chatBody({ top_logprobs: 2 }),
      400,
      "invalid_parameter",
      "top_logprobs",
    ],
    [
      "too many top_logprobs",
      chatBody({ logprobs: true, top_logprobs: 21 }),
      400,
      "invalid_parameter",
      "top_logprobs",
    ],
    [
      "a temperature of minus infinity",
      '{"messages": [], "temperature": -1e999}',
      400,
      "invalid_parameter",
      "temperature",
    ],
    ["credit, which is WebSocket's", chatBody({ credit: 1 }), 400, "invalid_parameter", "credit"],
    ["__proto__", '{"__proto__": {}, "messages": []}', 400, "invalid_parameter", "__proto__"],
    ["a message that is null", { messages: [null] }, 400, "invalid_parameter", "messages[0]"],
    ["n of 0", chatBody({ n: 0 }), 400, "invalid_parameter", "n"],
    ["n beyond the limit", chatBody({ n: 129 }), 400, "invalid_parameter", "n"],
    [
      "stream_options without stream",
      chatBody({ stream_options: {} }),
      400,
      "invalid_parameter",
      "stream_options",
    ],
    ["tools", chatBody({ tools: [{ type: "function" }] }), 400, "invalid_parameter", "tools"],
    [
      "a JSON response format",
      chatBody({ response_format: { type: "json_object" } }),
      400,
      "invalid_parameter",
      "response_format",
    ],
    ["a misspelt parameter", chatBody({ temprature: 1 }), 400, "invalid_parameter", "temprature"],
    ["another model", chatBody({ model: "gpt-9" }), 404, "unknown_model", "model"],
    ["an array", [], 400, "invalid_request", null],
    ["null", null, 400, "invalid_request", null],
    [
      "a number beyond doubles",
      '{"messages": [], "temperature": 1e999}',
      400,
      "invalid_parameter",
      "temperature",
    ],
    ["NaN", '{"temperature": NaN}', 400, "invalid_json", null],
    ["no JSON", "{", 400, "invalid_json", null],
    ["nothing", "", 400, "invalid_json", null],
    ["bytes that are no UTF-8", Buffer.from([0x22, 0xc3, 0x28, 0x22]), 400, "invalid_utf8", null],
    ["a NUL in JSON", "\0", 400, "invalid_json", null],
    ["nesting without end", "[".repeat(500_000), 400, "invalid_json", null],
    ["two megabytes", Buffer.alloc(2 << 20, " "), 413, "body_too_large", null],
    ["ten megabytes", Buffer.alloc(10 << 20, " "), 413, "body_too_large", null],
  ])("%s", async (_what, body, status, code, param) => {
    const refused = await refusal(server.url, body);
    expect(refused).toMatchObject({ status, code, param });
    expect(refused.message).toMatch(/^.{10,}\.$/s);
  });

  test("ten megabytes in chunks, without a length", async () => {
    let left = 160;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (left-- > 0) controller.enqueue(new Uint8Array(65536).fill(0x20));
        else controller.close();
      },
    });
    expect(await refusal(server.url, body)).toMatchObject({ status: 413, code: "body_too_large" });
  });

  test("a long body that waits to be asked for is never asked for", async () => {
    const asking = httpRequest(`${server.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", "content-length": 5 << 20, expect: "100-continue" },
    });
    let continued = false;
    asking.on("continue", () => {
      continued = true;
    });
    asking.flushHeaders();
    const [response] = (await once(asking, "response")) as [{ statusCode: number; resume(): void }];
    expect(response.statusCode).toBe(413);
    expect(continued).toBe(false);
    asking.destroy();
  });

  test("megabytes of prompt are told the field and both numbers too", async () => {
    const refused = await refusal(server.url, chatBody({ messages: user("word ".repeat(200_000)) }));
    expect(refused).toMatchObject({ status: 400, code: "prompt_too_long", param: "messages" });
    const { promptTokens, contextTokens } = refused.details;
    expect(promptTokens).toBeGreaterThan(8192);
    expect(refused.message).toContain(`at least ${promptTokens} tokens`);
    expect(refused.message).toContain(`holds ${contextTokens}`);
  });

  test("the smallest top_p there is keeps the likeliest token, as greedy does", async () => {
    const text = async (more: object): Promise<unknown> => {
      const response = await fetch(`${server.url}/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ ...chatBody(), ...more }),
      });
      const { choices } = (await response.json()) as { choices: { message: { content: string } }[] };
      return choices[0]?.message.content;
    };
    const greedy = await text({});
    expect(greedy).toMatch(/\w/);
    expect(await text({ temperature: 1, top_p: Number.MIN_VALUE })).toBe(greedy);
  });

  test("a body that is refused is read to its end, so that the answer arrives and not a reset", async () => {
    const { hostname, port } = new URL(server.url);
    for (const size of [2 << 20, 16 << 20]) {
      const socket = connect(Number(port), hostname);
      const length = `Content-Type: application/json\r\nContent-Length: ${size}\r\n\r\n`;
      socket.write(`POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n${length}`);
      // The answer comes at once, and more of the body after it.
      const [head] = (await once(socket, "data")) as [Buffer];
      expect(String(head)).toMatch(/^HTTP\/1\.1 413 /);
      socket.end(Buffer.alloc(size, " "));
      let answer = String(head);
      for await (const data of socket) answer += String(data);
      expect(answer).toContain('"code":"body_too_large"');
    }
  });

  test("a prompt that does not fit, with both numbers", async () => {
    const long = "word ".repeat(9000);
    const refused = await refusal(server.url, chatBody({ messages: user(long) }));
    expect(refused).toMatchObject({ status: 400, code: "prompt_too_long", param: "messages" });
    const { promptTokens, contextTokens } = refused.details;
    expect(promptTokens).toBeGreaterThan(9000);
    expect(contextTokens).toBe(8192);
    expect(refused.message).toContain(String(promptTokens));
    expect(refused.message).toContain(String(contextTokens));
  });

  test("a prompt that fits, with more output than the context has left", async () => {
    const refused = await refusal(server.url, chatBody({ max_tokens: 8190 }));
    expect(refused).toMatchObject({ status: 400, code: "prompt_too_long", param: "max_tokens" });
    expect(refused.details).toMatchObject({ contextTokens: 8192, maxTokens: 8190 });
  });

  test.each([
    ["an empty prompt", { prompt: "" }, "empty_prompt", "prompt"],
    ["no prompts", { prompt: [] }, "empty_prompt", "prompt"],
    ["no prompt at all", {}, "invalid_parameter", "prompt"],
    ["a mix", { prompt: ["a", 5] }, "invalid_parameter", "prompt"],
    ["ids outside the vocabulary", { prompt: [5, 49152] }, "invalid_parameter", "prompt"],
    ["a negative id", { prompt: [-1] }, "invalid_parameter", "prompt"],
    ["half an id", { prompt: [0.5] }, "invalid_parameter", "prompt"],
    ["echo", { prompt: "a", echo: true }, "invalid_parameter", "echo"],
    ["a suffix", { prompt: "a", suffix: "b" }, "invalid_parameter", "suffix"],
    ["best_of", { prompt: "a", best_of: 3 }, "invalid_parameter", "best_of"],
    ["too many choices", { prompt: Array(65).fill("a"), n: 2 }, "invalid_parameter", "prompt"],
  ])("completions: %s", async (_what, body, code, param) => {
    expect(await refusal(server.url, body, "/v1/completions")).toMatchObject({ status: 400, code, param });
  });

  test("any JSON at all, without harm", async () => {
    const field = fc.constantFrom(
      "messages",
      "max_tokens",
      "temperature",
      "stop",
      "n",
      "logit_bias",
      "stream",
      "seed",
      "top_k",
      "role",
      "prompt",
    );
    const value = fc.oneof(fc.jsonValue({ maxDepth: 3 }), fc.constant([{ role: "user", content: 1 }]));
    await fc.assert(
      fc.asyncProperty(fc.dictionary(field, value, { maxKeys: 5 }), async (body) => {
        // Whatever is let through is small and quick.
        const asked = JSON.stringify({ ...body, prompt: [], max_completion_tokens: 1 });
        const { status, code } = await refusal(server.url, asked, "/v1/completions");
        expect(status).toBe(400);
        expect(code).toMatch(/^(invalid_parameter|empty_prompt|invalid_utf8)$/);
      }),
      { numRuns: 60 },
    );
  });

  test("any bytes at all, without harm", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const { status } = await refusal(server.url, bytes);
        expect(status).toBe(400);
      }),
      { numRuns: 60 },
    );
  });
});

describe("a request that is refused", () => {
  test.each([
    ["GET", "/nowhere", 404, "unknown_route"],
    ["GET", "/v1/models/other", 404, "unknown_model"],
    ["GET", "/v1/chat/completions", 405, "method_not_allowed"],
    ["DELETE", "/v1/models", 405, "method_not_allowed"],
    ["POST", "/health", 405, "method_not_allowed"],
  ])("%s %s", async (method, path, status, code) => {
    const response = await fetch(server.url + path, { method });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { code } });
    if (status === 405) expect(response.headers.get("allow")).toMatch(/^(GET|POST)$/);
  });

  test.each(["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"])(
    "with content type %s",
    async (type) => {
      const refused = await refusal(server.url, "{}", "/v1/completions", { "content-type": type });
      expect(refused).toMatchObject({ status: 415, code: "unsupported_media_type" });
    },
  );

  test("that is not HTTP", async () => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    socket.end("\x16\x03\x01 nonsense\r\n\r\n");
    let answer = "";
    for await (const data of socket) answer += String(data);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"code":"invalid_request"');
  });

  test("from a foreign page, or for a foreign host", async () => {
    const { port } = new URL(server.url);
    const status = async (headers: Record<string, string>): Promise<number> => {
      const asking = httpRequest({ host: "127.0.0.1", port, path: "/v1/models", headers });
      asking.end();
      const [response] = (await once(asking, "response")) as [{ statusCode: number; resume(): void }];
      response.resume();
      return response.statusCode;
    };
    expect(await status({ origin: "https://evil.example" })).toBe(403);
    expect(await status({ origin: "null" })).toBe(403);
    expect(await status({ host: "evil.example" })).toBe(403);
    expect(await status({ origin: `http://127.0.0.1:${port}` })).toBe(200);
    expect(await status({ host: `localhost:${port}` })).toBe(200);
  });
});

describe("a request that is unusual, and right", () => {
  /** All that comes back on a socket that gets `parts` and then nothing more, until the server closes it. */
  const answered = async (...parts: string[]): Promise<string> => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    for (const part of parts) {
      socket.write(part);
      // The server has taken up what came before, once it has answered another.
      await fetch(`${server.url}/health`);
    }
    let text = "";
    for await (const data of socket) text += String(data);
    return text;
  };
  const body = JSON.stringify(chatBody({ ignore_eos: true }));
  const head = (more: string, target = "/v1/chat/completions") =>
    `POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${more}Content-Length: ${body.length}\r\n\r\n`;
  const ok = (text: string): number => text.match(/HTTP\/1\.1 200 OK/g)?.length ?? 0;

  // As Java's HttpClient asks.
  const offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n";

  test("HTTP/2 offered by upgrade is not taken, and the request answered, however it arrives", async () => {
    expect(ok(await answered(head(offer) + body))).toBe(1);
    expect(ok(await answered(head(offer), body))).toBe(1);
    expect(ok(await answered(head(offer).slice(0, 60), head(offer).slice(60), body))).toBe(1);
    // Behind two that are still being answered.
    expect(ok(await answered(head("") + body + head("") + body + head(offer) + body))).toBe(3);
  });

  test("sockets that offer HTTP/2 and are cut at any point are forgotten", async () => {
    const { hostname, port } = new URL(server.url);
    const text = head("") + body + head(offer) + body + head(offer);
    for (let cut = 0; cut <= text.length; cut += 9) {
      const socket = connect(Number(port), hostname);
      await once(socket, "connect");
      await new Promise((resolve) => socket.write(text.slice(0, cut), resolve));
      if (cut % 2 === 0) await fetch(`${server.url}/health`);
      socket.resetAndDestroy();
    }
    // This test's own, and that of the stream which is to come to no harm.
    await expect.poll(() => metric(server.url, "streamserve_sockets")).toBeLessThanOrEqual(3);
  });

  test("a target that is a whole address, as for a proxy", async () => {
    const target = "http://localhost/v1/chat/completions";
    expect(ok(await answered(head("Connection: close\r\n", target) + body))).toBe(1);
  });

  test("an answer of OpenAI's as a message", async () => {
    const answer = { role: "assistant", content: "1", refusal: null, annotations: [], tool_calls: [] };
    const messages = [...user("Count."), answer, ...user("On.")];
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(chatBody({ messages })),
    });
    expect(response.status).toBe(200);
  });
});

describe("where the WebSocket door is", () => {
  test("a plain request is told what the path is for", async () => {
    const response = await fetch(`${server.url}/v1/stream`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({
      error: { code: "invalid_request", message: expect.stringMatching(/WebSocket.*streamserve\.v1/) },
    });
  });

  test("a handshake of another version is refused as all else is", async () => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    socket.write(
      "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
        "Sec-WebSocket-Version: 9\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
        "Sec-WebSocket-Protocol: streamserve.v1\r\n\r\n",
    );
    let answer = "";
    for await (const data of socket) answer += String(data);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"code":"invalid_request"');
    expect(answer).toContain("Sec-WebSocket-Version: 13");
  });
});

test("where the KV pool has less room than the context, it is the context", async () => {
  const small = await startTestServer({ engine: { kvTokens: 512 } });
  try {
    const models = (await (await fetch(`${small.url}/v1/models`)).json()) as { data: unknown[] };
    expect(models.data[0]).toMatchObject({ max_model_len: 512 });
    const refused = await refusal(small.url, { prompt: "a ".repeat(600) }, "/v1/completions");
    expect(refused).toMatchObject({ status: 400, code: "prompt_too_long", param: "prompt" });
    expect(refused.message).toContain("engine.kvTokens");
    const more = await refusal(small.url, { prompt: "a", max_tokens: 600 }, "/v1/completions");
    expect(more).toMatchObject({ status: 400, code: "prompt_too_long", param: "max_tokens" });
    // Without a limit it is what is left.
    const { usage } = await openAi(small).completions.create({
      model: MODEL,
      prompt: "a ".repeat(500),
      ignore_eos: true,
    } as never);
    expect(usage?.total_tokens).toBe(512);
  } finally {
    await small.close(0);
  }
});

test("a request that would wait too long is told at once what is predicted, and when to come back", async () => {
  const busy = await startTestServer({ scheduler: { maxRunning: 1, interactive: { ttftMs: 500 } } });
  const post = (body: object, signal?: AbortSignal) =>
    fetch(`${busy.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    });
  try {
    const leave = new AbortController();
    // Its headers come with its first token: it has the only place then.
    await post({ ...running, max_tokens: 1500 }, leave.signal);
    const response = await post(chatBody());
    expect(response.status).toBe(503);
    const { error } = (await response.json()) as {
      error: { code: string; message: string; details: { retryAfterMs: number } };
    };
    expect(error.code).toBe("overloaded");
    expect(error.message).toMatch(
      /^The first token is predicted in \d+ ms, later than scheduler\.interactive\.ttftMs \(500 ms\) allows for: try again in \d+ ms\.$/,
    );
    const { retryAfterMs } = error.details;
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(response.headers.get("retry-after-ms")).toBe(String(retryAfterMs));
    expect(response.headers.get("retry-after")).toBe(String(Math.ceil(retryAfterMs / 1000)));
    leave.abort();
  } finally {
    await busy.close(0);
  }
});

describe("a start that is refused", () => {
  test("on a port that is taken", async () => {
    const other = createServer();
    other.listen(0, "127.0.0.1");
    await once(other, "listening");
    const { port } = other.address() as { port: number };
    await expect(startTestServer({ server: { port } })).rejects.toMatchObject({
      code: "port_in_use",
      message: expect.stringContaining(String(port)),
    });
    other.close();
  });

  test("on an open address without a key", async () => {
    await expect(startTestServer({ server: { host: "0.0.0.0" } })).rejects.toMatchObject({
      code: "config_invalid",
      message: expect.stringContaining("apiKey"),
    });
  });

  test("with a model that is not there", async () => {
    await expect(startTestServer({ model: "./nowhere.gguf" })).rejects.toMatchObject({
      code: "model_not_found",
    });
  });
});
