import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { StreamServe } from "../dist/index.js";
import { openTextCodec } from "../dist/model/text-codec.js";
import type { GgufValue } from "./gguf-file.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** From chat to text with a SentencePiece model, whose random weights draw byte tokens in any order. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

interface Fixture {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
}

function modelFile(): string {
  const { tokens, scores, types }: Fixture = JSON.parse(
    readFileSync(new URL("fixtures/tokenizers/gemma.json", import.meta.url), "utf8"),
  );
  const metadata: Record<string, GgufValue> = {
    "tokenizer.ggml.model": { type: "string", value: "llama" },
    "tokenizer.ggml.tokens": { type: "strings", value: tokens },
    "tokenizer.ggml.scores": { type: "f32s", value: scores },
    "tokenizer.ggml.token_type": { type: "i32s", value: types },
    "tokenizer.ggml.add_space_prefix": { type: "bool", value: false },
    "tokenizer.ggml.bos_token_id": { type: "u32", value: tokens.indexOf("<s>") },
    "tokenizer.ggml.eos_token_id": { type: "u32", value: tokens.indexOf("</s>") },
    "tokenizer.chat_template": {
      type: "string",
      value:
        "{{ bos_token }}{% for m in messages %}{{ m.role + ': ' + m.content + '<end_of_turn>' }}{% endfor %}",
    },
  };
  const weights = Float32Array.from(
    { length: TINY.embedding * tokens.length },
    (_, i) => Math.sin(i * i) * 0.3,
  );
  const embedding = {
    name: "token_embd.weight",
    shape: [TINY.embedding, tokens.length],
    format: "F32",
    bytes: new Uint8Array(weights.buffer),
  } as const;
  return directory.write(tinyModel({ metadata, without: embedding.name, extraTensors: [embedding] }));
}

test("deltas are whole characters, and together the text of all tokens", async () => {
  const path = modelFile();
  const codec = await openTextCodec(path);
  await using serve = await StreamServe.start({ model: path });
  const messages = [{ role: "user" as const, content: "Grüße 👍" }];
  let bytesMet = 0;
  for (let seed = 1; seed <= 6; seed++) {
    const generation = serve.chat({
      messages,
      temperature: 1.5,
      seed,
      maxTokens: 60,
      ignoreEos: true,
      logprobs: 1,
    });
    let text = "";
    const bytes: number[] = [];
    for await (const delta of generation) {
      expect(delta.text.isWellFormed()).toBe(true);
      text += delta.text;
      for (const logprob of delta.logprobs) bytes.push(...logprob.bytes);
    }
    // Bytes that are no UTF-8 are one U+FFFD each time, as decoding all at once has them.
    expect(text).toBe(Buffer.from(bytes).toString("utf8"));
    bytesMet += bytes.filter((byte) => byte >= 0x80).length;
    expect(generation.ending).toMatchObject({ finish: "length", usage: { outputTokens: 60 } });
  }
  expect(bytesMet).toBeGreaterThan(50);
  expect(codec.stopIds.length).toBe(2);
  await codec.close();
});
