import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join } from "node:path";
import { quantise } from "#streamserve/model/quantise/quantise.js";
import { BenchError } from "../bench-error.js";
import { cacheDirectory } from "../cache.js";
import { runChild } from "../child.js";
import { readDataset } from "../load/dataset.js";
import type { LlamaCpp } from "../peer/build-llama-cpp.js";
import { requantize } from "../peer/llama-cpp.js";
import { type Closeness, peerCloseness } from "./closeness.js";
import { Truth } from "./truth.js";

/** Every format that our engine reads, by the name that `llama-quantize` has for the nearest whole model. */
export const FORMATS = {
  F32: "F32",
  F16: "F16",
  BF16: "BF16",
  Q8_0: "Q8_0",
  Q6_K: "Q6_K",
  Q5_K: "Q5_K_M",
  Q5_1: "Q5_1",
  Q5_0: "Q5_0",
  Q4_K: "Q4_K_M",
  Q4_1: "Q4_1",
  Q4_0: "Q4_0",
  IQ4_NL: "IQ4_NL",
} as const;
export type FormatName = keyof typeof FORMATS;

/** In capitals or not. Throws BenchError for another. */
export function formatNamed(wanted: string): FormatName {
  const all = Object.keys(FORMATS) as FormatName[];
  const found = all.find((name) => name === wanted.toUpperCase());
  if (found === undefined) throw new BenchError(`There is no format "${wanted}": ${all.join(", ")}.`);
  return found;
}

const WINDOW_TOKENS = 512;
/** More than four bytes a token, and no text of ours has so long ones. */
const BYTES_A_WINDOW = 4096;
const RUN_TIMEOUT_MS = 1_800_000;

/** The model with all matrices as 32-bit floats: what is rounded already is not rounded again. */
async function floatCopy(model: string): Promise<string> {
  const out = join(cacheDirectory("accuracy"), `${basename(model, ".gguf")}.F32.gguf`);
  if (!existsSync(out)) {
    await quantise({ source: model, out, format: "f32", threads: availableParallelism() });
  }
  return out;
}

/** The model in another format, made by `llama-quantize` from its floats once and kept. */
export async function copyIn(peer: LlamaCpp, model: string, format: FormatName): Promise<string> {
  const floats = await floatCopy(model);
  if (format === "F32") return floats;
  const out = floats.replace(/F32\.gguf$/, `${format}.gguf`);
  if (!existsSync(out)) {
    await requantize(peer, floats, FORMATS[format], `${out}.partial`);
    renameSync(`${out}.partial`, out);
  }
  return out;
}

/**
 * What llama.cpp computes with the very weights of `model` as 32-bit floats, over a fixed text: articles of the set
 * `sum`. Computed once and kept.
 */
export async function computeTruth(
  peer: LlamaCpp,
  model: string,
  windows: number,
  threads: number,
): Promise<{ readonly file: string; readonly truth: Truth }> {
  const file = join(cacheDirectory("accuracy"), `${basename(model, ".gguf")}.${windows}.truth`);
  if (!existsSync(file)) {
    const text = join(cacheDirectory("accuracy"), "text.txt");
    writeFileSync(
      text,
      readDataset("sum")
        .join("\n\n")
        .slice(0, windows * BYTES_A_WINDOW),
    );
    const isFloats = model.endsWith(".F32.gguf");
    const floats = isFloats ? model : await floatCopy(model);
    const args = ["-m", floats, "-f", text, ...common(windows, threads)];
    await runChild(join(peer.bin, "llama-perplexity"), [...args, "--kl-divergence-base", `${file}.partial`], {
      timeoutMs: RUN_TIMEOUT_MS,
    });
    renameSync(`${file}.partial`, file);
    // Half a gigabyte for a small model, and quickly made again.
    if (!isFloats) rmSync(floats);
  }
  return { file, truth: new Truth(file) };
}

export async function measurePeer(
  peer: LlamaCpp,
  model: string,
  truthFile: string,
  windows: number,
  threads: number,
): Promise<Closeness> {
  const args = ["-m", model, ...common(windows, threads), "--kl-divergence"];
  const said = await runChild(
    join(peer.bin, "llama-perplexity"),
    [...args, "--kl-divergence-base", truthFile],
    { timeoutMs: RUN_TIMEOUT_MS },
  );
  const closeness = peerCloseness(said);
  if (closeness === undefined) throw new BenchError("llama-perplexity printed no divergence.");
  return closeness;
}

function common(windows: number, threads: number): string[] {
  return ["-c", String(WINDOW_TOKENS), "--chunks", String(windows), "-t", String(threads)];
}
