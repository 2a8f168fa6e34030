import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { ERROR_CODES, StreamServeError } from "../dist/errors.js";
import { resolveModel } from "../dist/model/resolve.js";
import { HubDirectory, hubTensor, type StoredTensor, safetensorsFile, TINY_CONFIG } from "./hub-model.js";
import { tinyTensors } from "./tiny-model.js";

/** Damaged and foreign safetensors models, through the door that every model comes in by. */

const directory = new HubDirectory();
afterAll(() => directory.dispose());

const tensors = tinyTensors({ format: "F32" }).map(hubTensor);
const whole = safetensorsFile(tensors);
const headerBytes = Number(whole.readBigUInt64LE(0));

type Files = Readonly<Record<string, Uint8Array | string | object>>;

/** Opens the model and takes a step with it; gives the error's code and text, or "ok". */
function tryOut(files: Files): { code: string; message: string } {
  const path = directory.write({ "config.json": TINY_CONFIG, ...files });
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
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

const model = (bytes: Uint8Array): Files => ({ "model.safetensors": bytes });

test("a whole model runs", () => {
  expect(tryOut(model(whole)).code).toBe("ok");
});

test("a file cut anywhere is called truncated", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: whole.length - 1 }), (length) => {
      expect(tryOut(model(whole.subarray(0, length))).code).toBe("model_file_truncated");
    }),
    { numRuns: 150 },
  );
});

test("bytes after the last tensor are refused", () => {
  expect(tryOut(model(Buffer.concat([whole, Buffer.alloc(1)]))).code).toBe("model_file_invalid");
});

test("flipped bits never end the process, and every refusal has a code", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 0, max: headerBytes + 8 }), fc.integer({ min: 0, max: 7 })), {
        minLength: 1,
        maxLength: 4,
      }),
      (flips) => {
        const damaged = Buffer.from(whole);
        for (const [at, bit] of flips) damaged[at]! ^= 1 << bit;
        tryOut(model(damaged));
      },
    ),
    { numRuns: 300 },
  );
});

test("hostile header lengths are refused without allocating for them", () => {
  const before = process.memoryUsage().rss;
  for (const length of [2n ** 63n, 2n ** 64n - 1n, 2n ** 40n, 2n ** 26n + 1n]) {
    const damaged = Buffer.from(whole);
    damaged.writeBigUInt64LE(length, 0);
    expect(["model_file_truncated", "model_file_invalid"]).toContain(tryOut(model(damaged)).code);
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
});

describe("headers that lie", () => {
  const first = tensors[0]!;
  const entry = (change: Record<string, unknown>) => (header: Record<string, unknown>) => ({
    ...header,
    [first.name]: { ...(header[first.name] as object), ...change },
  });
  test.each<[string, (header: Record<string, unknown>) => unknown]>([
    ["an unknown dtype", entry({ dtype: "F7" })],
    ["a shape of another size", entry({ shape: [1, 2] })],
    ["a shape that overflows", entry({ shape: [2 ** 40, 2 ** 40, 2 ** 40] })],
    ["a negative extent", entry({ shape: [-1, 64] })],
    ["an extent that is no whole number", entry({ shape: [1.5, 64] })],
    ["too many dimensions", entry({ shape: Array.from({ length: 9 }, () => 1) })],
    ["offsets the wrong way round", entry({ data_offsets: [64, 0] })],
    ["one offset", entry({ data_offsets: [0] })],
    ["offsets that are no numbers", entry({ data_offsets: ["0", "64"] })],
    ["an entry that is no object", (header) => ({ ...header, [first.name]: 7 })],
    ["a list", () => []],
    ["an overlap", (header) => ({ ...header, extra: { dtype: "F32", shape: [1], data_offsets: [0, 4] } })],
    [
      "deep nesting",
      (header) => ({ ...header, __metadata__: JSON.parse("[".repeat(200) + "]".repeat(200)) }),
    ],
  ])("%s", (_, change) => {
    expect(tryOut(model(safetensorsFile(tensors, change))).code).toBe("model_file_invalid");
  });

  test("a tensor beyond the end of the file", () => {
    const beyond = entry({ data_offsets: [2 ** 50, 2 ** 50 + first.bytes.length] });
    expect(tryOut(model(safetensorsFile(tensors, beyond))).code).toBe("model_file_truncated");
  });
});

describe("what a model asks for and the engine lacks is named", () => {
  const added = (tensor: StoredTensor) => model(safetensorsFile([...tensors, tensor]));
  const config = (change: Record<string, unknown>): Files => ({
    ...model(whole),
    "config.json": { ...TINY_CONFIG, ...change },
  });
  test.each<[string, Files, string, RegExp]>([
    ["another model type", config({ model_type: "mamba" }), "model_architecture_unsupported", /"mamba"/],
    ["another activation", config({ hidden_act: "relu" }), "model_architecture_unsupported", /"relu"/],
    [
      "quantised weights",
      config({ quantization_config: { quant_method: "awq" } }),
      "model_format_unsupported",
      /awq/,
    ],
    [
      "a scaled rotation of another kind",
      config({ rope_scaling: { rope_type: "dynamic", factor: 2 } }),
      "model_architecture_unsupported",
      /"dynamic"/,
    ],
    [
      "a YaRN rotation with more settings",
      config({ rope_scaling: { rope_type: "yarn", factor: 2, mscale: 1 } }),
      "model_architecture_unsupported",
      /mscale/,
    ],
    [
      "rotations by kind of layer",
      config({ rope_parameters: { full_attention: { rope_theta: 1 } } }),
      "model_architecture_unsupported",
      /rope_parameters/,
    ],
    [
      "experts that are not there",
      config({ model_type: "mixtral", num_local_experts: 4, num_experts_per_tok: 2 }),
      "model_file_invalid",
      /ffn_gate_inp/,
    ],
    [
      "a mixture of other shares",
      config({
        model_type: "qwen3_moe",
        num_experts: 4,
        num_experts_per_tok: 2,
        moe_intermediate_size: 32,
        norm_topk_prob: false,
      }),
      "model_architecture_unsupported",
      /norm_topk_prob/,
    ],
    [
      "a tensor of another network",
      added({ name: "model.layers.0.mixer.weight", dtype: "F32", shape: [1], bytes: new Uint8Array(4) }),
      "model_architecture_unsupported",
      /model\.layers\.0\.mixer\.weight/,
    ],
    [
      "a tensor in another format",
      added({
        name: "model.layers.0.self_attn.q_norm.weight",
        dtype: "F8_E4M3",
        shape: [4],
        bytes: new Uint8Array(4),
      }),
      "model_format_unsupported",
      /q_norm.*F8_E4M3/,
    ],
    ["no layers", config({ num_hidden_layers: null }), "model_file_invalid", /num_hidden_layers/],
    ["heads that do not fit", config({ num_attention_heads: 3 }), "model_file_invalid", /heads/],
    ["no type", config({ model_type: null }), "model_file_invalid", /model_type/],
  ])("%s", (_, files, code, message) => {
    const found = tryOut(files);
    expect(found.code).toBe(code);
    expect(found.message).toMatch(message);
  });

  test("a missing tensor", () => {
    const found = tryOut(
      model(safetensorsFile(tensors.filter(({ name }) => !name.includes("1.mlp.up_proj")))),
    );
    expect(found).toMatchObject({ code: "model_file_invalid", message: expect.stringMatching(/ffn_up/) });
  });
});

describe("shards", () => {
  const half = tensors.length >> 1;
  const parts = { "a.safetensors": tensors.slice(0, half), "b.safetensors": tensors.slice(half) };
  const map = Object.fromEntries(
    Object.entries(parts).flatMap(([file, part]) => part.map(({ name }) => [name, file])),
  );
  const files = Object.fromEntries(
    Object.entries(parts).map(([file, part]) => [file, safetensorsFile(part)]),
  );
  const indexed = (change: Record<string, unknown>, more: Files = {}): Files => ({
    ...files,
    ...more,
    "model.safetensors.index.json": { weight_map: { ...map, ...change } },
  });

  const { "b.safetensors": _, ...withoutSecond } = indexed({});

  test.each<[string, Files, string]>([
    ["as they should be", indexed({}), "ok"],
    [
      "a file outside the directory",
      indexed({ [tensors[0]!.name]: "../a.safetensors" }),
      "model_file_invalid",
    ],
    ["a file that is no safetensors", indexed({ [tensors[0]!.name]: "config.json" }), "model_file_invalid"],
    ["a file that is not there", withoutSecond, "model_not_found"],
    [
      "a tensor that is in another file",
      indexed({ [tensors[0]!.name]: "b.safetensors" }),
      "model_file_invalid",
    ],
    ["a tensor that is in none", indexed({ "model.norm.bias": "a.safetensors" }), "model_file_invalid"],
    ["no map", { ...files, "model.safetensors.index.json": {} }, "model_file_invalid"],
    ["an index that is no JSON", { ...files, "model.safetensors.index.json": "{]" }, "model_file_invalid"],
  ])("%s", (_, given, code) => {
    expect(tryOut(given).code).toBe(code);
  });
});

test("damaged configurations never end the process", () => {
  const text = JSON.stringify(TINY_CONFIG);
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: text.length - 1 }),
      fc.constantFrom("", "{", "}", "[", '"', "\\", "9e999", "-", "\u0000", "null", "\\ud800"),
      (at, piece) => {
        const damaged = text.slice(0, at) + piece + text.slice(at + 1);
        tryOut({ ...model(whole), "config.json": damaged });
      },
    ),
    { numRuns: 200 },
  );
});

test("a directory that is no model is refused before anything is opened", async () => {
  const empty = directory.write({});
  await expect(resolveModel(empty)).rejects.toMatchObject({ code: "model_not_found" });
  expect(await resolveModel(directory.write({ "config.json": {} }))).toBeTypeOf("string");
  mkdirSync(join(empty, "config.json"));
  await expect(resolveModel(empty)).rejects.toMatchObject({ code: "model_not_found" });
  writeFileSync(join(empty, "x"), "");
});
