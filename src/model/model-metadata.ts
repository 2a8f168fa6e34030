import { statSync } from "node:fs";
import { dirname } from "node:path";
import { type Metadata, readPackedMetadata } from "../engine/metadata.js";

/**
 * Hyper-parameters, tokenizer and chat template of a model under GGUF's keys, whether it is a GGUF file or a
 * safetensors model. Throws what reading either throws.
 */
export async function readModelMetadata(path: string): Promise<Metadata> {
  const { metadata, version } = readPackedMetadata(path);
  if (version > 0) return metadata;
  // Loaded for hub models alone: GGUF files should not wait for it.
  const { readHubTokenizer } = await import("./hub-tokenizer.js");
  const directory = statSync(path).isDirectory() ? path : dirname(path);
  const hub: Metadata = readHubTokenizer(directory);
  return new Map([...metadata, ...hub]);
}
