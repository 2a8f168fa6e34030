import { truncateSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { readMetadata } from "../dist/engine/metadata.js";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { ERROR_CODES, StreamServeError } from "../dist/errors.js";
import { type GgufValue, ggufFile, type TensorFormat } from "./gguf-file.js";
import { ModelDirectory, TINY, type TinyOptions, tinyModel } from "./tiny-model.js";

/** Damaged and foreign model files, through the door that every file comes in by. */

const directory = new ModelDirectory();
afterAll(() => directory.dispose());

const FILE_CODES = [
  "model_file_truncated",
  "model_file_invalid",
  "model_architecture_unsupported",
  "model_format_unsupported",
];

/** Opens the file and takes a step with it; gives the error's code and text, or "ok". */
function tryOut(bytes: Uint8Array): { code: string; message: string } {
  const path = directory.write(bytes);
  try {
    const engine = openEngine({ path, kvTokens: 64, threads: 1 });
    try {
      const lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 1, maxBatchTokens: 4 });
      lane.score(Uint32Array.of(1, 2));
      lane.close();
    } finally {
      closeEngine(engine.id);
    }
    return { code: "ok", message: "" };
  } catch (error) {
    expect(error).toBeInstanceOf(StreamServeError);
    const { code, message } = error as StreamServeError;
    expect(Object.keys(ERROR_CODES)).toContain(code);
    return { code, message };
  }
}

const whole = tinyModel();

test("a whole file runs", () => {
  expect(tryOut(whole).code).toBe("ok");
});

test("a version 2 file runs", () => {
  const older = Buffer.from(whole);
  older.writeUInt32LE(2, 4);
  expect(tryOut(older).code).toBe("ok");
});

test("a file cut anywhere is called truncated", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.length - 33 }), (length) => {
      expect(tryOut(whole.subarray(0, length)).code).toBe("model_file_truncated");
    }),
    { numRuns: 200 },
  );
});

test("a file that goes on after its last tensor is refused; padding is none of that", () => {
  const longer = (bytes: number): Uint8Array => Buffer.concat([whole, Buffer.alloc(bytes)]);
  // The last tensor's own padding, which a writer may leave out.
  expect(tryOut(longer(16)).code).toBe("ok");
  for (const bytes of [64, 1000, 1 << 20]) {
    const { code, message } = tryOut(longer(bytes));
    expect(code).toBe("model_file_invalid");
    expect(message).toMatch(/after its last tensor/);
  }
});

test("a header cut anywhere is called truncated by the metadata reader", () => {
  for (let length = 0; length < 400; length++) {
    const path = directory.write(whole.subarray(0, length));
    expect(() => readMetadata(path)).toThrowError(
      expect.objectContaining({ code: "model_file_truncated" }) as unknown as Error,
    );
  }
});

test("flipped bits never end the process, and every refusal has a code", () => {
  // Most of the interest lies in the header; the weights take any bits.
  const header = 4096;
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: header }), fc.integer({ min: 0, max: 7 })), {
        minLength: 1,
        maxLength: 4,
      }),
      (flips) => {
        const damaged = Buffer.from(whole);
        for (const [at, bit] of flips) damaged[at]! ^= 1 << bit;
        expect([...FILE_CODES, "ok", "native_argument_invalid", "out_of_memory"]).toContain(
          tryOut(damaged).code,
        );
      },
    ),
    { numRuns: 400 },
  );
});

test("hostile counts and lengths are refused without allocating for them", () => {
  const before = process.memoryUsage().rss;
  // Tensor count, metadata count, the first key's length.
  for (const at of [8, 16, 24]) {
    for (const count of [2n ** 63n, 2n ** 64n - 1n, 2n ** 40n, 2n ** 32n, 100_000n]) {
      const damaged = Buffer.from(whole);
      damaged.writeBigUInt64LE(count, at);
      expect(FILE_CODES).toContain(tryOut(damaged).code);
    }
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
});

test("arrays that no model has are refused before anyone pays for them", () => {
  const before = process.memoryUsage().rss;
  for (const elementType of [8, 0]) {
    // Zeros beyond the header: empty strings, or bytes. The file is sparse.
    const header = Buffer.alloc(24 + 8 + 1 + 4 + 4 + 8);
    header.write("GGUF");
    header.writeUInt32LE(3, 4);
    header.writeBigUInt64LE(1n, 16);
    header.writeBigUInt64LE(1n, 24);
    header.write("k", 32);
    header.writeUInt32LE(9, 33);
    header.writeUInt32LE(elementType, 37);
    header.writeBigUInt64LE(100_000_000n, 41);
    const path = directory.write(header);
    truncateSync(path, 1e9);
    expect(() => readMetadata(path)).toThrowError(
      expect.objectContaining({ code: "model_file_invalid" }) as unknown as Error,
    );
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
});

const u32 = (value: number): GgufValue => ({ type: "u32", value });
const text = (value: string): GgufValue => ({ type: "string", value });

/** The tiny model's header as another family's. */
function headerOf(architecture: string): Record<string, GgufValue> {
  const key = (name: string) => `${architecture}.${name}`;
  return {
    "general.architecture": text(architecture),
    [key("block_count")]: u32(TINY.layers),
    [key("context_length")]: u32(TINY.context),
    [key("embedding_length")]: u32(TINY.embedding),
    [key("feed_forward_length")]: u32(TINY.feedForward),
    [key("attention.head_count")]: u32(TINY.heads),
    [key("attention.head_count_kv")]: u32(TINY.kvHeads),
    [key("attention.layer_norm_rms_epsilon")]: { type: "f32", value: 1e-5 },
  };
}

describe("what a file asks for and the engine lacks is named", () => {
  test.each<[string, TinyOptions, string, RegExp]>([
    [
      "another architecture",
      { metadata: { "general.architecture": text("mamba") } },
      "model_architecture_unsupported",
      /"mamba"/,
    ],
    [
      "experts that all tokens share",
      { metadata: { "llama.expert_count": u32(8), "llama.expert_shared_count": u32(1) } },
      "model_architecture_unsupported",
      /experts that all tokens share/,
    ],
    [
      "more experts a token than there are",
      { metadata: { "llama.expert_count": u32(8), "llama.expert_used_count": u32(9) } },
      "model_file_invalid",
      /9 of 8 experts/,
    ],
    [
      "experts that are not there",
      { metadata: { "llama.expert_count": u32(8), "llama.expert_used_count": u32(2) } },
      "model_file_invalid",
      /ffn_gate_inp/,
    ],
    [
      "experts in a family without",
      { metadata: { ...headerOf("gemma3"), "gemma3.expert_count": u32(8) } },
      "model_architecture_unsupported",
      /mixture of experts in the architecture gemma3/,
    ],
    [
      "a window in a family without",
      { metadata: { ...headerOf("qwen2"), "qwen2.attention.sliding_window": u32(64) } },
      "model_architecture_unsupported",
      /sliding-window attention in the architecture qwen2/,
    ],
    [
      "a bias that its family needs",
      { metadata: headerOf("qwen2") },
      "model_file_invalid",
      /blk\.0\.attn_q\.bias/,
    ],
    [
      "a scaling of RoPE",
      { metadata: { "llama.rope.scaling.type": text("dynamic") } },
      "model_architecture_unsupported",
      /"dynamic"/,
    ],
    [
      "a rotation of odd size",
      { metadata: { "llama.rope.dimension_count": u32(10) } },
      "model_architecture_unsupported",
      /rotation of 10 dimensions/,
    ],
    [
      "a rotation that is too large",
      { metadata: { "llama.rope.dimension_count": u32(32) } },
      "model_file_invalid",
      /32 of 16 dimensions/,
    ],
    [
      "a cap that is none",
      { metadata: { "llama.final_logit_softcapping": { type: "f32", value: -1 } } },
      "model_file_invalid",
      /final_logit_softcapping/,
    ],
    [
      "a norm that its family lacks",
      {
        extraTensors: [
          { name: "blk.0.attn_q_norm.weight", shape: [16], format: "F32", bytes: new Uint8Array(64) },
        ],
      },
      "model_architecture_unsupported",
      /blk\.0\.attn_q_norm\.weight.*llama/,
    ],
    [
      "a format",
      {
        without: "blk.1.ffn_down.weight",
        extraTensors: [
          {
            name: "blk.1.ffn_down.weight",
            shape: [256, 64],
            format: "Q6_K",
            bytes: new Uint8Array(210 * 64),
          },
        ],
        metadata: { "llama.feed_forward_length": u32(128) },
      },
      "model_file_invalid",
      /blk\.1\.ffn_down\.weight/,
    ],
    ["a tensor that is not there", { without: "blk.1.attn_k.weight" }, "model_file_invalid", /attn_k/],
    [
      "more heads than fit",
      { metadata: { "llama.attention.head_count_kv": u32(3) } },
      "model_file_invalid",
      /KV heads/,
    ],
    ["no layers", { metadata: { "llama.block_count": u32(0) } }, "model_file_invalid", /block_count/],
  ])("%s", (_, options, code, message) => {
    const found = tryOut(tinyModel(options));
    expect(found.code).toBe(code);
    expect(found.message).toMatch(message);
  });
});

test("a format that is not supported is named", () => {
  const bytes = tinyModel({
    without: "output_norm.weight",
    extraTensors: [{ name: "output_norm.weight", shape: [64], format: "Q8_0", bytes: new Uint8Array(68) }],
  });
  expect(tryOut(bytes).code).toBe("ok");
  const found = tryOut(tinyModel({ wide: true, formats: [[/blk\.0\.attn_q/, "Q2_K"]] }));
  expect(found.code).toBe("model_format_unsupported");
  expect(found.message).toMatch(/blk\.0\.attn_q\.weight.*Q2_K/);
});

test.each<TensorFormat>(["Q4_K", "Q5_K", "Q6_K"])(
  "rows of 64 are no rows of %s, and it says so",
  (format) => {
    const found = tryOut(tinyModel({ formats: [[/blk\.0\.attn_q/, format]] }));
    expect(found.code).toBe("model_file_invalid");
    expect(found.message).toMatch(new RegExp(`blk\\.0\\.attn_q\\.weight.* 64 .*256 .*${format}`));
  },
);

test("what is no model file is refused", () => {
  expect(tryOut(Buffer.from("not a model at all, just some text")).code).toBe("model_file_invalid");
  expect(() => openEngine({ path: "/no/such/file.gguf", kvTokens: 64 })).toThrowError(
    expect.objectContaining({ code: "model_not_found" }) as unknown as Error,
  );
  expect(() => openEngine({ path: "/", kvTokens: 64 })).toThrowError(
    expect.objectContaining({ code: "model_not_found" }) as unknown as Error,
  );
});

test("metadata of every type comes back as it was written", () => {
  const written: Record<string, GgufValue> = {
    "a.number": u32(4_000_000_000),
    "a.real": { type: "f32", value: 0.5 },
    "a.flag": { type: "bool", value: true },
    "a.text": text("Grüße, 世界"),
    "a.list": { type: "strings", value: ["", "x", "▁the"] },
    __proto__x: text("kept"),
  };
  const { metadata, tensors, version } = readMetadata(directory.write(ggufFile(written, [])));
  expect(version).toBe(3);
  expect(tensors).toEqual([]);
  for (const [key, value] of Object.entries(written)) expect(metadata.get(key)).toEqual(value.value);
});
