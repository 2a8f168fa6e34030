import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GgufTensor } from "./gguf-file.js";
import { TINY } from "./tiny-model.js";

/** Writes models as the Hugging Face hub has them: config.json and safetensors, from tensors under GGUF's names. */

export interface StoredTensor {
  readonly name: string;
  readonly dtype: string;
  /** Outermost first. */
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

/** The bytes of a .safetensors file; `change` may spoil the header. */
export function safetensorsFile(
  tensors: readonly StoredTensor[],
  change: (header: Record<string, unknown>) => unknown = (header) => header,
): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(change(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map(({ bytes }) => bytes)]);
}

const LAYER_NAMES: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  ffn_norm: "post_attention_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
const MODEL_NAMES: Readonly<Record<string, string>> = {
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
};

/**
 * A tensor as the hub stores it: another name, extents outermost first, and of Llama's queries and keys the rows of each
 * head taken apart into halves (transformers rotates row i against row i + half).
 */
export function hubTensor({ name, shape, format, bytes }: GgufTensor): StoredTensor {
  const layer = /^blk\.(\d+)\.(\w+)\.(\w+)$/.exec(name);
  const [stem = "", kind = ""] = name.split(".");
  const hubName = layer
    ? `model.layers.${layer[1]}.${LAYER_NAMES[layer[2]!]}.${layer[3]}`
    : `${MODEL_NAMES[stem]}.${kind}`;
  const heads = layer?.[2] === "attn_q" ? TINY.heads : layer?.[2] === "attn_k" ? TINY.kvHeads : 0;
  return {
    name: hubName,
    dtype: format,
    shape: [...shape].reverse(),
    bytes: heads > 0 ? halves(bytes, heads, shape[1]!) : bytes,
  };
}

function halves(bytes: Uint8Array, heads: number, rows: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  const row = bytes.length / rows;
  const perHead = rows / heads;
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < perHead; i++) {
      const to = head * perHead + (i % 2) * (perHead / 2) + Math.floor(i / 2);
      const from = head * perHead + i;
      out.set(bytes.subarray(from * row, (from + 1) * row), to * row);
    }
  }
  return out;
}

/** config.json of the tiny Llama. */
export const TINY_CONFIG: Readonly<Record<string, unknown>> = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_act: "silu",
  hidden_size: TINY.embedding,
  intermediate_size: TINY.feedForward,
  num_hidden_layers: TINY.layers,
  num_attention_heads: TINY.heads,
  num_key_value_heads: TINY.kvHeads,
  head_dim: null,
  max_position_embeddings: TINY.context,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  rope_scaling: null,
  tie_word_embeddings: true,
  vocab_size: TINY.vocabulary,
};

/** Directories of hub models that are removed by `dispose`. */
export class HubDirectory {
  readonly #root = mkdtempSync(join(tmpdir(), "streamserve-hub-"));
  #models = 0;

  /** A new directory with these files; objects are written as JSON. */
  write(files: Readonly<Record<string, Uint8Array | string | object>>): string {
    const directory = join(this.#root, `model-${this.#models++}`);
    mkdirSync(directory);
    for (const [name, content] of Object.entries(files)) {
      const raw = typeof content === "string" || content instanceof Uint8Array;
      writeFileSync(join(directory, name), raw ? content : JSON.stringify(content));
    }
    return directory;
  }

  dispose(): void {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
