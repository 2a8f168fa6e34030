import { execFile } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { StreamServe, StreamServeError } from "../dist/index.js";

/** The runtime inside a program of one's own: no server. */

let serve: StreamServe;

beforeAll(async () => {
  serve = await StreamServe.start({ config: { server: { creditWindowTokens: 8 } } });
});

afterAll(() => serve.close());

const messages = [{ role: "user" as const, content: "Name a colour." }];

describe("StreamServe", () => {
  test("streams deltas in order, and returns how it ended", async () => {
    const generation = serve.chat({ messages, temperature: 0, maxTokens: 20, ignoreEos: true });
    let text = "";
    let tokens = 0;
    for await (const delta of generation) {
      expect(delta.index).toBe(tokens);
      tokens += delta.tokens;
      text += delta.text;
    }
    expect(tokens).toBe(20);
    expect(generation.ending).toMatchObject({ finish: "length", usage: { outputTokens: 20 } });
    const again = await serve.chat({ messages, temperature: 0, maxTokens: 20, ignoreEos: true }).completion();
    expect(again.text).toBe(text);
    expect(again.usage.cachedTokens).toBeGreaterThan(0);
  });

  test("makes tokens no further ahead than the reader's window", async () => {
    const generation = serve.complete({ prompt: "The sea", maxTokens: 400, ignoreEos: true });
    await generation.next();
    const made = (): number => serve.snapshot().outputTokens;
    const before = made();
    // Another request runs to its end meanwhile: time enough to overrun, if anything did.
    await serve.complete({ prompt: "The sky", maxTokens: 30, ignoreEos: true }).text();
    expect(made() - before).toBeLessThanOrEqual(30 + 2 * 8);
    generation.cancel();
    await expect(generation.next()).rejects.toMatchObject({ code: "cancelled" });
  });

  test("is aborted by a signal, before and while it runs", async () => {
    await expect(serve.chat({ messages, signal: AbortSignal.abort() }).text()).rejects.toMatchObject({
      code: "cancelled",
    });
    const abort = new AbortController();
    const generation = serve.complete({
      prompt: "a",
      maxTokens: 4000,
      ignoreEos: true,
      signal: abort.signal,
    });
    await generation.next();
    abort.abort();
    const failure = await generation.text().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StreamServeError);
    expect(failure).toMatchObject({ code: "cancelled" });
    await expect.poll(() => serve.snapshot().kv.usedBlocks).toBe(0);
  });

  test("tells whoever asks again the same, text and usage", async () => {
    const generation = serve.complete({ prompt: "The sea", temperature: 0, maxTokens: 8, ignoreEos: true });
    const first = (await generation.next()).value as { readonly text: string };
    const [rest, whole, text] = await Promise.all([
      generation.completion(),
      generation.completion(),
      generation.text(),
    ]);
    expect(whole).toEqual(rest);
    expect(text).toBe(rest.text);
    expect(rest.usage.outputTokens).toBe(8);
    const again = serve.complete({ prompt: "The sea", temperature: 0, maxTokens: 8, ignoreEos: true });
    expect(first.text + text).toBe(await again.text());
    expect((await again.completion()).usage.outputTokens).toBe(8);
  });

  test("many share a signal without a warning, and each is told its reason", async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): unknown => warnings.push(warning);
    process.on("warning", warned);
    const abort = new AbortController();
    const { signal } = abort;
    const short = Array.from({ length: 12 }, () => serve.complete({ prompt: "a", maxTokens: 1, signal }));
    await Promise.all(short.map((generation) => generation.text()));
    const long = Array.from({ length: 12 }, () =>
      serve.complete({ prompt: "a", maxTokens: 200, ignoreEos: true, signal }),
    );
    await Promise.all(long.map((generation) => generation.next()));
    const reason = new Error("the user left");
    abort.abort(reason);
    for (const generation of long) {
      await expect(generation.text()).rejects.toMatchObject({ code: "cancelled", cause: reason });
    }
    await expect(serve.complete({ prompt: "a", signal }).text()).rejects.toMatchObject({ cause: reason });
    await expect.poll(() => serve.snapshot().kv.usedBlocks).toBe(0);
    process.off("warning", warned);
    expect(warnings).toEqual([]);
  });

  test.each([
    ["NaN", { temperature: Number.NaN }, "temperature"],
    ["infinity", { maxTokens: Number.POSITIVE_INFINITY }, "maxTokens"],
    ["a wrong type", { topP: "1" as never }, "topP"],
    ["an unknown option", { tempo: 1 } as never, "tempo"],
    ["a seed that is too long", { seed: 2 ** 60 }, "seed"],
  ])("refuses %s", async (_what, options, param) => {
    await expect(serve.chat({ messages, ...(options as object) }).text()).rejects.toMatchObject({
      code: "invalid_parameter",
      details: { param },
    });
  });

  test("refuses empty prompts, prompts that do not fit and unknown settings", async () => {
    await expect(serve.chat({ messages: [] }).text()).rejects.toMatchObject({ code: "empty_prompt" });
    await expect(serve.complete({ prompt: [] }).text()).rejects.toMatchObject({ code: "empty_prompt" });
    await expect(serve.complete({ prompt: new Uint32Array(9000).fill(5) }).text()).rejects.toMatchObject({
      code: "prompt_too_long",
      details: { promptTokens: 9000, contextTokens: 8192 },
    });
    expect(await serve.complete({ prompt: new Uint16Array([5, 6]), maxTokens: 1 }).text()).toBeTypeOf(
      "string",
    );
    await expect(serve.complete({ prompt: new Float64Array([5, Number.NaN]) }).text()).rejects.toMatchObject({
      code: "invalid_parameter",
      details: { param: "prompt" },
    });
    await expect(serve.complete({ prompt: "word ".repeat(200_000) }).text()).rejects.toMatchObject({
      code: "prompt_too_long",
      details: { param: "prompt", contextTokens: 8192 },
    });
    await expect(StreamServe.start({ model: "no-such-model" })).rejects.toMatchObject({
      code: "model_not_found",
    });
  });

  test.each([
    [
      "a key that is none",
      { config: { server: { prot: 1 } } },
      "config_unknown_key",
      /"server\.prot".*"port"/,
    ],
    ["a section that is none", { config: { pears: {} } }, "config_unknown_key", /"pears".*"pairs"/],
    ["an option that is none", { modle: "x" }, "config_unknown_key", /"modle".*"model"/],
    ["a value out of range", { config: { pairs: 0 } }, "config_invalid", /"pairs"/],
    ["NaN", { config: { engine: { kvTokens: Number.NaN } } }, "config_invalid", /"engine\.kvTokens"/],
    ["a wrong type", { model: 5 }, "config_invalid", /"model"/],
    [
      "more threads than there can be",
      { config: { engine: { threads: 100_000 } } },
      "config_invalid",
      /threads/,
    ],
    [
      "a larger context than the model's",
      { config: { engine: { contextTokens: 1e9 } } },
      "config_invalid",
      /8192/,
    ],
    [
      "an instruction set that is none",
      { config: { engine: { instructionSet: "x" } } },
      "config_invalid",
      /portable/,
    ],
    [
      "mailboxes of an odd size",
      { config: { runtime: { ringBytes: 300_000 } } },
      "config_invalid",
      /power of two/,
    ],
    [
      "mailboxes for no message",
      { config: { runtime: { signalRingBytes: 64 } } },
      "config_invalid",
      />=4096/,
    ],
    [
      "a longer wait than timers have",
      { config: { server: { stallMs: 2 ** 31 } } },
      "config_invalid",
      /stallMs/,
    ],
    ["no options at all", null, "config_invalid", /options/],
    ["a configuration that is none", { config: 5 }, "config_invalid", /"config"/],
    ["a log that is none", { onLog: 5 }, "config_invalid", /"onLog"/],
  ])("does not start with %s", async (_what, options, code, message) => {
    await expect(StreamServe.start(options as never)).rejects.toMatchObject({
      name: "StreamServeError",
      code,
      message: expect.stringMatching(message),
    });
  });

  test("options that are none are thrown by the iteration, as all that is wrong with them", async () => {
    for (const options of [undefined, null, 5, { messages, signal: {} }, { messages: [null] }]) {
      await expect(serve.chat(options as never).text()).rejects.toMatchObject({ name: "StreamServeError" });
      await expect(serve.complete(options as never).text()).rejects.toMatchObject({
        name: "StreamServeError",
      });
    }
  });

  test("lives beside another instance; a closed one refuses and leaves the other alone", async () => {
    const other = await StreamServe.start({ config: { engine: { kvTokens: 1024 } } });
    const options = { prompt: "One two", maxTokens: 6, temperature: 0 };
    const [here, there] = await Promise.all([serve.complete(options).text(), other.complete(options).text()]);
    expect(there).toBe(here);
    const cut = other.complete({ ...options, maxTokens: 500, ignoreEos: true });
    await cut.next();
    await other.close();
    await expect(cut.text()).rejects.toMatchObject({ code: "cancelled" });
    await expect(other.complete(options).text()).rejects.toMatchObject({ code: "draining" });
    expect(() => other.snapshot()).toThrowError(expect.objectContaining({ code: "draining" }));
    expect(await serve.complete(options).text()).toBe(here);
  });

  test("gives back all memory when its worker thread is terminated in the middle of an answer", async () => {
    const program = `
      import { parentPort } from "node:worker_threads";
      import { StreamServe } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
      const serve = await StreamServe.start();
      for await (const { index } of serve.complete({ prompt: "a", maxTokens: 4000, ignoreEos: true })) {
        if (index > 20) parentPort.postMessage("going");
      }`;
    const rounds = 6;
    let before = 0;
    for (let round = 0; round < rounds; round++) {
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`));
      await once(worker, "message");
      await worker.terminate();
      // The first also loads what all share.
      if (round === 0) before = process.memoryUsage().rss;
    }
    // Each has weights of 126 MB.
    expect(process.memoryUsage().rss - before).toBeLessThan(250e6);
    expect(await serve.complete({ prompt: "One", maxTokens: 2 }).text()).not.toBe("");
  });

  test("lets its process end by itself", async () => {
    const options = { prompt: "One two three", maxTokens: 4, temperature: 0 };
    const program = `
      import { StreamServe } from ${JSON.stringify(new URL("../dist/index.js", import.meta.url).href)};
      const serve = await StreamServe.start();
      process.stdout.write(await serve.complete(${JSON.stringify(options)}).text());
      await serve.close();
    `;
    const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
      timeout: 30_000,
    });
    const { stdout, stderr } = await run;
    expect(stdout).toBe(await serve.complete(options).text());
    expect(stderr).toBe("");
  });
});
