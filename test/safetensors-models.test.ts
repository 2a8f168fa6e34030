import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readMetadata } from "../dist/engine/metadata.js";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { unpackStrings } from "../dist/engine/packed-strings.js";
import type { TextCodec } from "../dist/model/model.js";
import { readModelMetadata } from "../dist/model/model-metadata.js";
import { resolveModel } from "../dist/model/resolve.js";
import { openTextCodec } from "../dist/model/text-codec.js";
import { readVocabulary } from "../dist/model/vocabulary.js";
import type { TensorFormat } from "./gguf-file.js";
import { HubDirectory, hubTensor, safetensorsFile, TINY_CONFIG } from "./hub-model.js";
import { ModelDirectory, TINY, type TinyOptions, tinyModel, tinyTensors } from "./tiny-model.js";

interface SentencePieceFixture {
  readonly tokens: readonly string[];
  readonly scores: readonly number[];
  readonly types: readonly number[];
  readonly prefix: boolean;
  readonly texts: readonly string[];
  readonly ids: readonly (readonly number[])[];
  readonly special_texts: readonly string[];
  readonly special_ids: readonly (readonly number[])[];
}

/** A sentencepiece vocabulary as transformers writes it: every way to make a piece of two is a merge, best score first. */
function fastTokenizer({ tokens, scores, types, prefix }: SentencePieceFixture): object {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const pieces = tokens.flatMap((token, id) => (types[id] === 1 ? [{ token, score: scores[id]! }] : []));
  const merges = pieces
    .sort((a, b) => b.score - a.score)
    .flatMap(({ token }) =>
      Array.from({ length: token.length - 1 }, (_, at) => [
        token.slice(0, at + 1),
        token.slice(at + 1),
      ]).filter(([left = "", right = ""]) => ids.has(left) && ids.has(right)),
    );
  const marks = { type: "Replace", pattern: { String: " " }, content: "\u2581" };
  return {
    added_tokens: tokens.flatMap((content, id) =>
      types[id] === 3 || types[id] === 4 ? [{ id, content, special: types[id] === 3 }] : [],
    ),
    normalizer: prefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: "\u2581" }, marks] }
      : marks,
    pre_tokenizer: null,
    model: { type: "BPE", vocab: Object.fromEntries(ids), merges, byte_fallback: true, unk_token: "<unk>" },
  };
}

/** Safetensors models compute to the bit what the same weights in a GGUF file do. */

const ggufs = new ModelDirectory();
const hubs = new HubDirectory();
afterAll(() => {
  ggufs.dispose();
  hubs.dispose();
});

const ids = Uint32Array.from({ length: 40 }, (_, i) => (i * 37 + (i >> 3)) % TINY.vocabulary);

function score(path: string, exact = false): Float32Array {
  const engine = openEngine({ path, kvTokens: 256, exact });
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 64 });
  const scores = lane.score(ids);
  lane.close();
  closeEngine(engine.id);
  return scores;
}

function hub(options: TinyOptions, config: Record<string, unknown> = {}): string {
  return hubs.write({
    "config.json": { ...TINY_CONFIG, ...config },
    "model.safetensors": safetensorsFile(tinyTensors(options).map(hubTensor)),
  });
}

describe.each<TensorFormat>(["F32", "F16", "BF16"])("%s", (format) => {
  test.each([false, true])("logits are those of the GGUF file (untied head: %s)", (untied) => {
    const options = { format, untied, seed: 21 };
    const path = hub(options, { tie_word_embeddings: !untied });
    const truth = score(ggufs.write(tinyModel(options)));
    expect(score(path)).toEqual(truth);
    expect(score(join(path, "model.safetensors"))).toEqual(truth);
    // Rows that were not put in order would give others: the comparison means something.
    const unordered = hubs.write({
      "config.json": { ...TINY_CONFIG, tie_word_embeddings: !untied },
      "model.safetensors": safetensorsFile(
        tinyTensors(options).map((tensor) => ({ ...hubTensor(tensor), bytes: tensor.bytes })),
      ),
    });
    expect(score(unordered)).not.toEqual(truth);
  });
});

/** Tensor name -> file, for three shards. */
function sharded(options: TinyOptions) {
  const tensors = tinyTensors(options).map(hubTensor);
  const name = (at: number) => `model-0000${at + 1}-of-00003.safetensors`;
  const parts = [0, 1, 2].map((at) => tensors.filter((_, i) => i % 3 === at));
  const map = Object.fromEntries(parts.flatMap((part, at) => part.map((tensor) => [tensor.name, name(at)])));
  const files = Object.fromEntries(parts.map((part, at) => [name(at), safetensorsFile(part)]));
  return { files, index: { metadata: {}, weight_map: map } };
}

test("a model in several files is one model", () => {
  const options: TinyOptions = { format: "BF16", seed: 22 };
  const { files, index } = sharded(options);
  const path = hubs.write({ "config.json": TINY_CONFIG, "model.safetensors.index.json": index, ...files });
  expect(score(path)).toEqual(score(ggufs.write(tinyModel(options))));
});

test("a tied head that is stored all the same is left alone", () => {
  const tensors = tinyTensors({ format: "F32", seed: 23 });
  const head = { ...tensors.find(({ name }) => name === "token_embd.weight")!, name: "output.weight" };
  const path = hubs.write({
    "config.json": TINY_CONFIG,
    "model.safetensors": safetensorsFile([...tensors, head].map(hubTensor)),
  });
  expect(score(path)).toEqual(score(ggufs.write(tinyModel({ format: "F32", seed: 23 }))));
});

test("the rotation of llama3 is that of a GGUF file with its divisors", () => {
  const scaling = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
  const original = 64;
  // The formula of Llama 3.1's reference code, written out for head size 16 and base 10000.
  const divisors = Float32Array.from({ length: 8 }, (_, i) => {
    const wavelength = 2 * Math.PI * 10000 ** ((2 * i) / 16);
    if (wavelength < original / 4) return 1;
    if (wavelength > original / 1) return 8;
    const smooth = (original / wavelength - 1) / (4 - 1);
    return 1 / ((1 - smooth) / 8 + smooth);
  });
  expect(new Set(divisors).size).toBeGreaterThan(2);
  const truth = score(
    ggufs.write(
      tinyModel({
        format: "F32",
        seed: 24,
        extraTensors: [
          { name: "rope_freqs.weight", shape: [8], format: "F32", bytes: new Uint8Array(divisors.buffer) },
        ],
      }),
    ),
  );
  const rope = { ...scaling, original_max_position_embeddings: original };
  expect(score(hub({ format: "F32", seed: 24 }, { rope_scaling: rope }))).toEqual(truth);
  const newer = { rope_theta: null, rope_parameters: { ...rope, rope_theta: 10000 } };
  expect(score(hub({ format: "F32", seed: 24 }, newer))).toEqual(truth);
  expect(score(hub({ format: "F32", seed: 24 }))).not.toEqual(truth);
});

test("the rotation of YaRN is that of a GGUF file with the same settings", () => {
  const settings = { factor: 4, original_max_position_embeddings: 64, beta_fast: 3, beta_slow: 0.5 };
  const f32 = (value: number) => ({ type: "f32", value }) as const;
  const attention = 1.5;
  const truth = score(
    ggufs.write(
      tinyModel({
        format: "F32",
        seed: 25,
        metadata: {
          "llama.rope.scaling.type": { type: "string", value: "yarn" },
          "llama.rope.scaling.factor": f32(settings.factor),
          "llama.rope.scaling.original_context_length": { type: "u32", value: 64 },
          "llama.rope.scaling.yarn_beta_fast": f32(settings.beta_fast),
          "llama.rope.scaling.yarn_beta_slow": f32(settings.beta_slow),
          "llama.rope.scaling.attn_factor": f32(attention / (1 + 0.1 * Math.log(settings.factor))),
        },
      }),
    ),
  );
  const found = (more: object) =>
    score(hub({ format: "F32", seed: 25 }, { rope_scaling: { type: "yarn", ...settings, ...more } }));
  expect(found({ attention_factor: attention })).toEqual(truth);
  expect(found({})).not.toEqual(truth);
  expect(found({ attention_factor: attention, beta_fast: 32 })).not.toEqual(truth);
});

test("hyper-parameters come under GGUF's names", () => {
  const { metadata, version, tensors } = readMetadata(hub({ format: "F16" }, { rope_theta: 500000 }));
  expect(version).toBe(0);
  expect(Object.fromEntries(metadata)).toMatchObject({
    "general.architecture": "llama",
    "llama.block_count": TINY.layers,
    "llama.rope.freq_base": 500000,
    "llama.attention.head_count_kv": TINY.kvHeads,
  });
  const query = tensors.find(({ name }) => name === "blk.0.attn_q.weight");
  expect(query).toMatchObject({ format: "F16", shape: [TINY.embedding, TINY.embedding] });
});

describe("the tokenizer of tokenizer.json", () => {
  let gguf: string;
  let codec: TextCodec;
  let ofHub: TextCodec;
  let directory: string;

  beforeAll(async () => {
    gguf = await resolveModel("smollm2-135m-instruct");
    const metadata = await readModelMetadata(gguf);
    const vocabulary = readVocabulary(metadata);
    if (vocabulary.kind !== "byte-level") throw new Error(`The model's tokenizer is ${vocabulary.kind}.`);
    const { tokens, control, userDefined, merges } = vocabulary;
    const added = [...control, ...userDefined];
    const special = new Set(added.map(([text]) => text));
    directory = hubs.write({
      "config.json": { ...TINY_CONFIG, eos_token_id: 2 },
      "model.safetensors": safetensorsFile(tinyTensors({ format: "F32" }).map(hubTensor)),
      "tokenizer_config.json": {
        bos_token: "<|im_start|>",
        eos_token: { content: "<|im_end|>" },
        chat_template: metadata.get("tokenizer.chat_template"),
      },
      "tokenizer.json": {
        added_tokens: added.map(([content, id]) => ({ id, content, special: control.has(content) })),
        normalizer: null,
        // As the published file has it.
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [
            { type: "Digits", individual_digits: true },
            { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
          ],
        },
        model: {
          type: "BPE",
          vocab: Object.fromEntries(
            unpackStrings(tokens).flatMap((text, id) => (special.has(text) ? [] : [[text, id]])),
          ),
          merges: unpackStrings(merges).map((merge, at) => (at % 2 ? merge : merge.split(" "))),
        },
      },
    });
    [codec, ofHub] = await Promise.all([openTextCodec(gguf), openTextCodec(directory)]);
  }, 60_000);
  afterAll(() => Promise.all([codec.close(), ofHub.close()]));

  test("gives the ids of the GGUF file's", async () => {
    for (const text of [
      "Hello, world 2024!",
      "<|im_start|>user\nGrüße 世界<|im_end|>",
      "  \t\n a  b",
      "🙂",
    ]) {
      expect(await ofHub.encode(text, true)).toEqual(await codec.encode(text, true));
      expect(await ofHub.encode(text, false)).toEqual(await codec.encode(text, false));
    }
    expect(ofHub.vocabulary).toBe(codec.vocabulary);
    expect(ofHub.stopIds).toEqual(codec.stopIds);
  });

  test("renders the chat template of tokenizer_config.json", async () => {
    const messages = [{ role: "user", content: "Hi" }] as const;
    expect(await ofHub.encodeChat(messages)).toEqual(await codec.encodeChat(messages));
  });

  test.each(["merges", "gemma"])(
    "gives sentencepiece's ids where it was made from its model (%s)",
    async (name) => {
      const fixture: SentencePieceFixture = JSON.parse(
        readFileSync(new URL(`fixtures/tokenizers/${name}.json`, import.meta.url), "utf8"),
      );
      const path = hubs.write({
        "config.json": TINY_CONFIG,
        "model.safetensors": safetensorsFile(tinyTensors({ format: "F32" }).map(hubTensor)),
        "tokenizer.json": fastTokenizer(fixture),
        "tokenizer_config.json": { add_bos_token: false },
      });
      const codec = await openTextCodec(path);
      for (const [at, text] of fixture.texts.entries()) {
        expect([...(await codec.encode(text, false))]).toEqual(fixture.ids[at]);
      }
      for (const [at, text] of fixture.special_texts.entries()) {
        expect([...(await codec.encode(text, true))]).toEqual(fixture.special_ids[at]);
      }
      await codec.close();
    },
  );

  test.each<[string, Record<string, unknown>, RegExp]>([
    ["unigram", { model: { type: "Unigram", vocab: {} } }, /"Unigram"/],
    ["a lower-casing normaliser", { normalizer: { type: "Lowercase" } }, /Lowercase/],
    ["another cut", { pre_tokenizer: { type: "Whitespace" } }, /Whitespace/],
  ])("%s is refused by name", async (_, change, message) => {
    const base = { model: { type: "BPE", vocab: { a: 0 }, merges: [] }, ...change };
    const path = hubs.write({
      "config.json": TINY_CONFIG,
      "model.safetensors": safetensorsFile(tinyTensors({ format: "F32" }).map(hubTensor)),
      "tokenizer.json": base,
    });
    await expect(openTextCodec(path)).rejects.toMatchObject({
      code: "model_tokenizer_unsupported",
      message: expect.stringMatching(message),
    });
  });

  test.each<[string, Record<string, string | object>, string]>([
    ["no tokenizer.json", {}, "model_tokenizer_unsupported"],
    ["text that is no JSON", { "tokenizer.json": "{" }, "model_file_invalid"],
    ["ids out of range", { "tokenizer.json": { model: { vocab: { a: -1 } } } }, "model_file_invalid"],
    ["a wide gap", { "tokenizer.json": { model: { vocab: { a: 4000000 } } } }, "model_file_invalid"],
  ])("%s is refused", async (_, files, code) => {
    const path = hubs.write({
      "config.json": TINY_CONFIG,
      "model.safetensors": safetensorsFile(tinyTensors({ format: "F32" }).map(hubTensor)),
      ...files,
    });
    await expect(openTextCodec(path)).rejects.toMatchObject({ code });
  });
});
