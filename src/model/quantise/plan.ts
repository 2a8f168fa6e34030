import type { GgufHeader, TensorDescription } from "../../engine/metadata.js";
import { QUANTISED_FORMATS, type QuantisedFormat } from "../../engine/quantiser.js";
import type { GgufTensor } from "./gguf-writer.js";

/** Which tensor of a model is written in which format, and whose norm says which of its columns matter. */

export interface TensorPlan extends GgufTensor {
  readonly target: QuantisedFormat;
  /** Name of the norm's weights that its input is multiplied by. */
  readonly norm: string | undefined;
}

export interface FormatChoice {
  readonly format: QuantisedFormat;
  /** Of embeddings and head. */
  readonly head: QuantisedFormat;
}

export function planTensors({ tensors }: GgufHeader, choice: FormatChoice): readonly TensorPlan[] {
  const names = new Set(tensors.map(({ name }) => name));
  return tensors.map((tensor) => {
    const target = targetOf(tensor, choice);
    const norm = normOf(tensor.name);
    const { number, blockElements, blockBytes } = QUANTISED_FORMATS[target];
    const elements = tensor.shape.reduce((product, extent) => product * extent, 1);
    return {
      name: tensor.name,
      shape: tensor.shape,
      format: number,
      bytes: (elements / blockElements) * blockBytes,
      target,
      norm: norm !== undefined && names.has(norm) ? norm : undefined,
    };
  });
}

/** Vectors stay as they are; rows that no block fits are kept in 16 bits. */
function targetOf({ name, shape, format }: TensorDescription, choice: FormatChoice): QuantisedFormat {
  if (shape.length < 2 || name.endsWith("ffn_gate_inp.weight")) return "f32";
  const wanted = /^(token_embd|output)\.weight$/.test(name) ? choice.head : choice.format;
  if ((shape[0] ?? 0) % QUANTISED_FORMATS[wanted].blockElements === 0) return wanted;
  return format === "BF16" ? "bf16" : "f16";
}

function normOf(name: string): string | undefined {
  if (name === "output.weight") return "output_norm.weight";
  const [, layer, part = ""] = /^(blk\.\d+\.)(\w+)\.weight$/.exec(name) ?? [];
  if (layer === undefined) return undefined;
  if (/^attn_(q|k|v|qkv)$/.test(part)) return `${layer}attn_norm.weight`;
  return /^ffn_(gate|up)$/.test(part) ? `${layer}ffn_norm.weight` : undefined;
}
