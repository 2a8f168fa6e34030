import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { type MetadataValue, readMetadata } from "../dist/engine/metadata.js";
import { closeEngine, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { Quantiser } from "../dist/engine/quantiser.js";
import { HubDirectory, type StoredTensor, safetensorsFile } from "./hub-model.js";

/** Each family's fixture, taken apart into the hub's form again, computes to the bit what the GGUF file does. */

const hubs = new HubDirectory();
afterAll(() => hubs.dispose());

const NAMES: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_qkv: "self_attn.qkv_proj",
  attn_output: "self_attn.o_proj",
  attn_q_norm: "self_attn.q_norm",
  attn_k_norm: "self_attn.k_norm",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
  ffn_gate_inp: "mlp.gate",
};
/** Of each expert, behind its number. */
const EXPERT_NAMES: Readonly<Record<string, readonly [string, string]>> = {
  ffn_gate_exps: ["gate_proj", "w1"],
  ffn_up_exps: ["up_proj", "w3"],
  ffn_down_exps: ["down_proj", "w2"],
};
const GEMMA: Readonly<Record<string, string>> = {
  post_attention_norm: "post_attention_layernorm",
  ffn_norm: "pre_feedforward_layernorm",
  post_ffw_norm: "post_feedforward_layernorm",
};

/** Rows of each head apart into halves: the inverse of what GGUF's Llama files have. */
function halves(values: Float32Array, heads: number, rows: number): Float32Array {
  const out = new Float32Array(values.length);
  const cols = values.length / rows;
  const perHead = rows / heads;
  for (let row = 0; row < rows; row++) {
    const i = row % perHead;
    const to = row - i + (i % 2) * (perHead / 2) + (i >> 1);
    out.set(values.subarray(row * cols, (row + 1) * cols), to * cols);
  }
  return out;
}

interface Family {
  readonly file: string;
  readonly type: string;
  /** What the configuration says besides extents. */
  readonly config?: Readonly<Record<string, unknown>>;
}

const LLAMA3 = { rope_type: "llama3", low_freq_factor: 1, high_freq_factor: 4 };
const FAMILIES: readonly Family[] = [
  { file: "mistral", type: "mistral" },
  { file: "qwen2", type: "qwen2" },
  { file: "qwen3", type: "qwen3" },
  {
    file: "gemma3",
    type: "gemma3_text",
    config: {
      hidden_activation: "gelu_pytorch_tanh",
      rope_scaling: { rope_type: "linear", factor: 8 },
      rope_local_base_freq: 10000,
      sliding_window_pattern: 6,
      query_pre_attn_scalar: 32,
    },
  },
  {
    file: "gemma3",
    type: "gemma3_text",
    config: {
      // As newer configurations have it.
      rope_theta: undefined,
      rope_parameters: {
        sliding_attention: { rope_type: "default", rope_theta: 10000 },
        full_attention: { rope_type: "linear", rope_theta: 1e6, factor: 8 },
      },
      layer_types: Array.from({ length: 6 }, (_, i) => (i === 5 ? "full_attention" : "sliding_attention")),
      query_pre_attn_scalar: 32,
    },
  },
  { file: "phi3", type: "phi3" },
  {
    file: "qwen2-yarn",
    type: "qwen2",
    config: { rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 } },
  },
  { file: "mixtral", type: "mixtral" },
  { file: "qwen3moe", type: "qwen3_moe", config: { norm_topk_prob: true, mlp_only_layers: [] } },
];

function load(file: string) {
  const path = fileURLToPath(new URL(`fixtures/families/${file}.gguf`, import.meta.url));
  const { metadata, tensors } = readMetadata(path);
  const source = new Quantiser(path, 1);
  const values = (name: string) => {
    const bytes = source.tensor(name, "f32");
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  };
  const architecture = metadata.get("general.architecture");
  return {
    path,
    tensors,
    values,
    of: (key: string): MetadataValue | undefined => metadata.get(`${architecture}.${key}`),
    close: () => source.close(),
  };
}

function hubOf({ file, type, config = {} }: Family): { gguf: string; hub: string } {
  const { path, tensors, values, of, close } = load(file);
  const gemma = type.startsWith("gemma");
  const rotated = Number(of("rope.dimension_count")) / Number(of("attention.key_length"));
  const stored: StoredTensor[] = [];
  for (const { name, shape } of tensors.filter(({ name }) => !name.startsWith("rope_"))) {
    const [, layer, part = "", kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(\w+)$/.exec(name) ?? [];
    const at = (of: string) =>
      layer === undefined ? `${of}.${kind}` : `model.layers.${layer}.${of}.${kind}`;
    const apart = EXPERT_NAMES[part];
    if (apart !== undefined) {
      const all = values(name);
      const size = all.length / shape.at(-1)!;
      for (let expert = 0; expert < shape.at(-1)!; expert++) {
        const numbers = all.slice(expert * size, (expert + 1) * size);
        const stem =
          type === "mixtral"
            ? `block_sparse_moe.experts.${expert}.${apart[1]}`
            : `mlp.experts.${expert}.${apart[0]}`;
        stored.push({
          name: at(stem),
          dtype: "F32",
          shape: shape.slice(0, 2).reverse(),
          bytes: new Uint8Array(numbers.buffer),
        });
      }
      continue;
    }
    const fused = type === "phi3" && part === "ffn_up" ? "mlp.gate_up_proj" : undefined;
    const stem = fused ?? (gemma ? GEMMA[part] : undefined) ?? NAMES[part];
    let numbers = values(name);
    if (gemma && name.endsWith("norm.weight")) numbers = numbers.map((x) => x - 1);
    const heads = { attn_q: of("attention.head_count"), attn_k: of("attention.head_count_kv") }[part];
    if (/^mi[sx]tral$/.test(type) && heads !== undefined)
      numbers = halves(numbers, Number(heads), shape.at(-1)!);
    stored.push({
      name: at(type === "mixtral" && stem === "mlp.gate" ? "block_sparse_moe.gate" : stem!),
      dtype: "F32",
      shape: [...shape].reverse(),
      bytes: new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength),
    });
  }
  const longrope = {
    type: "longrope",
    ...(type === "phi3" && {
      long_factor: [...values("rope_factors_long.weight")],
      short_factor: [...values("rope_factors_short.weight")],
    }),
  };
  close();
  const hub = hubs.write({
    "model.safetensors": safetensorsFile(stored),
    "config.json": {
      model_type: type,
      hidden_size: of("embedding_length"),
      intermediate_size: of("feed_forward_length"),
      num_hidden_layers: of("block_count"),
      num_attention_heads: of("attention.head_count"),
      num_key_value_heads: of("attention.head_count_kv"),
      head_dim: of("attention.key_length"),
      max_position_embeddings: of("context_length"),
      rms_norm_eps: of("attention.layer_norm_rms_epsilon"),
      rope_theta: of("rope.freq_base"),
      sliding_window: of("attention.sliding_window") ?? null,
      tie_word_embeddings: !tensors.some(({ name }) => name === "output.weight"),
      num_local_experts: of("expert_count"),
      num_experts: of("expert_count"),
      num_experts_per_tok: of("expert_used_count"),
      moe_intermediate_size: of("expert_feed_forward_length"),
      ...(type === "phi3" && {
        partial_rotary_factor: rotated,
        original_max_position_embeddings: of("rope.scaling.original_context_length"),
        rope_scaling: longrope,
      }),
      ...config,
    },
  });
  return { gguf: path, hub };
}

function score(path: string, tokens: number): Float32Array {
  const engine = openEngine({ path, kvTokens: 512, exact: true });
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 64 });
  const ids = Uint32Array.from({ length: tokens }, (_, i) => (i * 37 + (i >> 3)) % engine.vocabulary);
  const scores = lane.score(ids, tokens - 16);
  lane.close();
  closeEngine(engine.id);
  return scores;
}

test.each(FAMILIES)("$file as $type, %#", (family) => {
  const { gguf, hub } = hubOf(family);
  // Beyond windows and original contexts.
  expect(score(hub, 120)).toEqual(score(gguf, 120));
});

test("experts are quantised as those of a GGUF file are", () => {
  const { gguf, hub } = hubOf(FAMILIES.find(({ type }) => type === "qwen3_moe")!);
  const [ofHub, ofGguf] = [hub, gguf].map((path) => {
    const source = new Quantiser(path, 2);
    const bytes = source.tensor("blk.1.ffn_down_exps.weight", "q4_1");
    source.close();
    return bytes;
  });
  expect(ofHub).toEqual(ofGguf);
});

test("Llama with biases and the divisors of its rotation", () => {
  const { path, tensors, values, of, close } = load("llama");
  const stored = tensors
    .filter(({ name }) => name !== "rope_freqs.weight")
    .map(({ name, shape }): StoredTensor => {
      const [, layer, part = "", kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(\w+)$/.exec(name) ?? [];
      const heads = { attn_q: of("attention.head_count"), attn_k: of("attention.head_count_kv") }[part];
      const numbers = heads === undefined ? values(name) : halves(values(name), Number(heads), shape.at(-1)!);
      return {
        name: layer === undefined ? `${NAMES[part]}.${kind}` : `model.layers.${layer}.${NAMES[part]}.${kind}`,
        dtype: "F32",
        shape: [...shape].reverse(),
        bytes: new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength),
      };
    });
  close();
  const hub = hubs.write({
    "model.safetensors": safetensorsFile(stored),
    "config.json": {
      model_type: "llama",
      hidden_size: of("embedding_length"),
      intermediate_size: of("feed_forward_length"),
      num_hidden_layers: of("block_count"),
      num_attention_heads: of("attention.head_count"),
      num_key_value_heads: of("attention.head_count_kv"),
      max_position_embeddings: of("context_length"),
      rms_norm_eps: of("attention.layer_norm_rms_epsilon"),
      // As fixtures/families/models.py has them.
      rope_theta: of("rope.freq_base"),
      rope_scaling: { ...LLAMA3, factor: 8, original_max_position_embeddings: 64 },
      tie_word_embeddings: false,
    },
  });
  // The script computed the divisors in f32, which rounds some otherwise: safetensors-models.test.ts compares to the bit.
  const truth = score(path, 60);
  const found = score(hub, 60);
  const worst = found.reduce((most, x, i) => Math.max(most, Math.abs(x - truth[i]!)), 0);
  expect(worst).toBeLessThan(1e-3);
  expect(Math.min(...truth)).toBeLessThan(-5);
});
