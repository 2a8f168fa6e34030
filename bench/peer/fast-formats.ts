import { existsSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import { cacheDirectory } from "../cache.js";
import type { LlamaCpp } from "./build-llama-cpp.js";
import { requantize } from "./llama-cpp.js";

/** llama.cpp's own 4-bit formats with repacked kernels: its best 4-bit path, for information. */
const FAST_FORMATS = ["Q4_0", "IQ4_NL"];

/** Copies of the model in the fast formats, made once and kept in the cache. */
export async function fastCopies(
  peer: LlamaCpp,
  model: string,
  say: (text: string) => void,
): Promise<{ format: string; path: string }[]> {
  const copies: { format: string; path: string }[] = [];
  for (const format of FAST_FORMATS) {
    const path = join(cacheDirectory("requantized"), `${basename(model, ".gguf")}.${format}.gguf`);
    if (!existsSync(path)) {
      say(`making a ${format} copy`);
      await requantize(peer, model, format, `${path}.partial`);
      renameSync(`${path}.partial`, path);
    }
    copies.push({ format, path });
  }
  return copies;
}
