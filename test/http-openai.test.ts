import type OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningServer } from "../dist/index.js";
import { MODEL, openAi, startTestServer } from "./serving.js";

/** The HTTP door, tried by OpenAI's own client. */

let server: RunningServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startTestServer();
  client = openAi(server);
});

afterAll(() => server.close(0));

const messages = [{ role: "user" as const, content: "Name three colours." }];
const greedy = { model: MODEL, messages, temperature: 0, max_tokens: 12 };

describe("chat completions", () => {
  test("streams the text that is answered whole, with the same usage", async () => {
    const whole = await client.chat.completions.create(greedy);
    const chunks: OpenAI.ChatCompletionChunk[] = [];
    const stream = await client.chat.completions.create({
      ...greedy,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) chunks.push(chunk);

    const deltas = chunks.flatMap(({ choices }) => choices.map(({ delta }) => delta));
    expect(deltas[0]?.role).toBe("assistant");
    expect(deltas.map(({ content }) => content ?? "").join("")).toBe(whole.choices[0]?.message.content);
    expect(chunks.flatMap(({ choices }) => choices).at(-1)?.finish_reason).toBe("length");
    expect(chunks.at(-1)?.choices).toEqual([]);
    const usage = chunks.at(-1)?.usage;
    expect(usage?.completion_tokens).toBe(12);
    expect(usage?.prompt_tokens).toBe(whole.usage?.prompt_tokens);
    expect(usage?.total_tokens).toBe(usage!.prompt_tokens + 12);
    for (const { usage } of chunks.slice(0, -1)) expect(usage).toBeNull();
  });

  test("finds the prompt of an earlier request in the prefix cache", async () => {
    const { usage } = await client.chat.completions.create(greedy);
    expect(usage?.prompt_tokens_details?.cached_tokens).toBeGreaterThan(0);
  });

  test("ends a turn with finish_reason stop, and goes on if told to ignore the end", async () => {
    const short = {
      model: MODEL,
      messages: [{ role: "user" as const, content: "What is the capital of France? One word." }],
      temperature: 0,
      max_tokens: 40,
    };
    const ended = await client.chat.completions.create(short);
    expect(ended.choices[0]?.finish_reason).toBe("stop");
    expect(ended.usage?.completion_tokens).toBeLessThan(40);
    const more = { ...short, ignore_eos: true };
    const gone = await client.chat.completions.create(more);
    expect(gone.choices[0]?.finish_reason).toBe("length");
    expect(gone.usage?.completion_tokens).toBe(40);
  });

  test("cuts before a stop string, stream or not", async () => {
    const { choices } = await client.chat.completions.create({ ...greedy, max_tokens: 16 });
    const text = choices[0]!.message.content!;
    // The text from its middle on is a stop string that spans tokens.
    const stop = text.slice(Math.floor(text.length / 2), Math.floor(text.length / 2) + 6);
    const before = text.slice(0, text.indexOf(stop));
    const whole = await client.chat.completions.create({ ...greedy, max_tokens: 16, stop });
    expect(whole.choices[0]).toMatchObject({ finish_reason: "stop", message: { content: before } });
    expect(whole.usage?.completion_tokens).toBeLessThan(16);

    let streamed = "";
    for await (const chunk of await client.chat.completions.create({
      ...greedy,
      max_tokens: 16,
      stop: ["never there", stop],
      stream: true,
    })) {
      streamed += chunk.choices[0]?.delta.content ?? "";
    }
    expect(streamed).toBe(before);
  });

  test("repeats what a seed drew, and draws otherwise with another", async () => {
    const drawn = async (seed: number): Promise<string> => {
      const { choices } = await client.chat.completions.create({ ...greedy, temperature: 1.5, seed });
      return choices[0]!.message.content!;
    };
    const first = await drawn(7);
    expect(await drawn(7)).toBe(first);
    expect(await drawn(8)).not.toBe(first);
  });

  test("gives n choices, the i-th drawn with seed + i", async () => {
    const sampled = { ...greedy, temperature: 1.5, max_tokens: 8 };
    const { choices, usage } = await client.chat.completions.create({ ...sampled, seed: 40, n: 3 });
    expect(choices.map(({ index }) => index)).toEqual([0, 1, 2]);
    expect(new Set(choices.map(({ message }) => message.content)).size).toBe(3);
    const alone = await client.chat.completions.create({ ...sampled, seed: 42 });
    expect(choices[2]?.message.content).toBe(alone.choices[0]?.message.content);
    expect(usage?.prompt_tokens).toBe(alone.usage?.prompt_tokens);
  });

  test("streams n choices side by side", async () => {
    const texts = ["", ""];
    const finishes: string[] = [];
    const stream = await client.chat.completions.create({ ...greedy, n: 2, stream: true, max_tokens: 6 });
    for await (const { choices } of stream) {
      for (const { index, delta, finish_reason } of choices) {
        texts[index] += delta.content ?? "";
        if (finish_reason !== null) finishes.push(finish_reason);
      }
    }
    expect(texts[0]).toBe(texts[1]);
    expect(finishes).toEqual(["length", "length"]);
  });

  test("reports log-probabilities with bytes that spell the text", async () => {
    const { choices } = await client.chat.completions.create({ ...greedy, logprobs: true, top_logprobs: 3 });
    const entries = choices[0]!.logprobs!.content!;
    const bytes = Buffer.from(entries.flatMap(({ bytes }) => bytes ?? []));
    expect(bytes.toString("utf8")).toBe(choices[0]!.message.content);
    for (const { token, logprob, top_logprobs } of entries) {
      expect(top_logprobs).toHaveLength(3);
      // Greedy: the token drawn is the likeliest.
      expect(top_logprobs[0]).toMatchObject({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
      expect(top_logprobs[0]!.logprob).toBeGreaterThanOrEqual(top_logprobs[1]!.logprob);
    }
  });

  test("bends to logit_bias, penalties and min_tokens", async () => {
    const plain = await client.completions.create({
      model: MODEL,
      prompt: "One two",
      max_tokens: 1,
      temperature: 0,
      logprobs: 1,
    });
    const other = await client.completions.create({
      model: MODEL,
      prompt: "One two",
      max_tokens: 1,
      temperature: 0,
      logit_bias: { "198": 100 },
    });
    expect(other.choices[0]?.text).not.toBe(plain.choices[0]?.text);
    const loop = { model: MODEL, prompt: "a a a a a a a a", max_tokens: 12, temperature: 0 };
    const repeated = await client.completions.create(loop);
    const penalised = await client.completions.create({ ...loop, frequency_penalty: 2, presence_penalty: 2 });
    expect(penalised.choices[0]?.text).not.toBe(repeated.choices[0]?.text);
  });

  test("takes content parts, the developer role and fields that change nothing", async () => {
    const plain = await client.chat.completions.create({
      ...greedy,
      messages: [{ role: "system", content: "Be brief." }, ...messages],
    });
    const parts = await client.chat.completions.create({
      ...greedy,
      messages: [
        { role: "developer", content: "Be brief." },
        {
          role: "user",
          content: [
            { type: "text", text: "Name three " },
            { type: "text", text: "colours." },
          ],
        },
      ],
      user: "someone",
      metadata: { a: "b" },
      response_format: { type: "text" },
      tools: [],
    });
    expect(parts.choices[0]?.message.content).toBe(plain.choices[0]?.message.content);
  });
});

describe("a request's class and tenant", () => {
  const ask = (more: object) =>
    client.chat.completions.create({ ...greedy, ...more } as OpenAI.ChatCompletionCreateParamsNonStreaming);

  test("flex is offline work, and the reply names the tier that served it", async () => {
    expect((await ask({ service_tier: "flex", user: "a" })).service_tier).toBe("flex");
    expect((await ask({ service_tier: "auto", safety_identifier: "b" })).service_tier).toBe("default");
    expect((await ask({})).service_tier).toBeUndefined();
  });

  test.each([
    [{ service_tier: "flex", class: "interactive" }, "service_tier"],
    [{ service_tier: "cheap" }, "service_tier"],
    [{ user: "x".repeat(513) }, "user"],
    [{ safety_identifier: 7 }, "safety_identifier"],
  ])("%j is refused by its name", async (more, param) => {
    await expect(ask(more)).rejects.toMatchObject({ status: 400, code: "invalid_parameter", param });
  });
});

describe("completions", () => {
  const base = { model: MODEL, max_tokens: 6, temperature: 0 };

  test("continue text, token ids, and arrays of either, alike", async () => {
    const prompts = ["The sea is", "Once upon a time"];
    const alone = await Promise.all(prompts.map((prompt) => client.completions.create({ ...base, prompt })));
    const texts = alone.map(({ choices }) => choices[0]!.text);
    const together = await client.completions.create({ ...base, prompt: prompts, n: 2 });
    expect(together.choices.map(({ text }) => text)).toEqual([texts[0], texts[0], texts[1], texts[1]]);
    expect(together.usage?.prompt_tokens).toBe(
      alone[0]!.usage!.prompt_tokens + alone[1]!.usage!.prompt_tokens,
    );
    const ids = await client.completions.create({ ...base, prompt: [504, 7733, 314] });
    const sameIds = await client.completions.create({ ...base, prompt: [[504, 7733, 314]] });
    expect(ids.choices[0]?.text).toBe(sameIds.choices[0]?.text);
  });

  test("report log-probabilities as parallel arrays, with offsets into the text", async () => {
    const { choices } = await client.completions.create({ ...base, prompt: "The sea is", logprobs: 2 });
    const { text, logprobs } = choices[0]!;
    const { tokens, token_logprobs, top_logprobs, text_offset } = logprobs!;
    expect(tokens!.join("")).toBe(text);
    expect(token_logprobs).toHaveLength(tokens!.length);
    tokens!.forEach((token, i) => {
      expect(text.slice(text_offset![i]).startsWith(token)).toBe(true);
      expect(top_logprobs![i]![token]).toBe(token_logprobs![i]);
      expect(Object.keys(top_logprobs![i]!)).toHaveLength(2);
    });
  });
});

describe("what is served", () => {
  test("is listed, and found by its name", async () => {
    const { data } = await client.models.list();
    expect(data.map(({ id }) => id)).toEqual([MODEL]);
    expect(await client.models.retrieve(MODEL)).toMatchObject({ id: MODEL, object: "model" });
    await expect(client.models.retrieve("other")).rejects.toMatchObject({
      status: 404,
      code: "unknown_model",
    });
  });

  test("is healthy, ready, and counted", async () => {
    for (const path of ["/health", "/ready"]) expect((await fetch(server.url + path)).status).toBe(200);
    const text = await (await fetch(`${server.url}/metrics`)).text();
    for (const name of [
      "vllm:time_to_first_token_seconds_bucket",
      "vllm:generation_tokens_total",
      "streamserve_lane_steps",
      "streamserve_lane_step_cost_error",
    ]) {
      expect(text).toContain(name);
    }
  });

  test("has a page whose every module is served", async () => {
    const seen = new Set<string>();
    const visit = async (path: string): Promise<void> => {
      if (seen.has(path)) return;
      seen.add(path);
      const response = await fetch(server.url + path);
      expect(response.status, path).toBe(200);
      const text = await response.text();
      const links = [...text.matchAll(/(?:src|href)="(\/[^"]+)"|from "([^"]+)"/g)].map(
        (match) => match[1] ?? match[2]!,
      );
      for (const link of links) {
        await visit(new URL(link, server.url + path).pathname);
      }
    };
    await visit("/");
    expect(seen).toContain("/app/client/websocket-client.js");
    expect((await fetch(`${server.url}/app/viewer/..%2f..%2fpackage.json`)).status).toBe(404);
  });
});
