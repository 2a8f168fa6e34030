import { statSync } from "node:fs";
import { dirname } from "node:path";
import { type MetadataValue, readPackedMetadata } from "../engine/metadata.js";
import type { PackedStrings } from "../engine/packed-strings.js";
import type { Metadata } from "./vocabulary.js";

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
  return new Map<string, MetadataValue | PackedStrings>([...metadata, ...readHubTokenizer(directory)]);
}
