import { readMetadata } from "#streamserve/engine/metadata.js";
import { BenchError } from "../bench-error.js";

/** What a step of a Llama-family model must do, whoever computes it: for shares of the machine's ceilings. */
export interface ModelCosts {
  /** Bytes of the weight matrices that every step reads, as the file holds them. */
  readonly weightBytes: number;
  /** Multiply-accumulates of a token in the layers' matrices. */
  readonly layerMacs: number;
  /** Multiply-accumulates of a drawn token in the output matrix. */
  readonly headMacs: number;
  /** Bytes of keys and values of one token in all layers, as the engine's pool keeps them. */
  readonly kvBytesPerToken: number;
}

export function readModelCosts(path: string, kvBytesPerToken: number): ModelCosts {
  const header = readMetadata(path);
  const elements = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
  const layers = header.tensors.filter(({ name, shape }) => name.startsWith("blk.") && shape.length === 2);
  // A model without an output matrix of its own uses the embeddings once more.
  const head =
    header.tensors.find(({ name }) => name === "output.weight") ??
    header.tensors.find(({ name }) => name === "token_embd.weight");
  if (head === undefined || layers.length === 0) throw new BenchError(`${path} is no language model.`);
  return {
    weightBytes: [...layers, head].reduce((sum, tensor) => sum + tensor.bytes, 0),
    layerMacs: layers.reduce((sum, { shape }) => sum + elements(shape), 0),
    headMacs: elements(head.shape),
    kvBytesPerToken,
  };
}

/** Bytes that a decode step of `sequences` rows reads with `context` tokens in each one's KV. */
export function decodeBytes(costs: ModelCosts, sequences: number, context: number): number {
  return costs.weightBytes + sequences * context * costs.kvBytesPerToken;
}

/** Matrix multiply-accumulates of a prefill that draws one token; attention's own are left out. */
export function prefillMacs(costs: ModelCosts, tokens: number): number {
  return tokens * costs.layerMacs + costs.headMacs;
}
