import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { userCache } from "../engine/user-cache.js";
import { StreamServeError } from "../errors.js";
import type { CatalogueEntry } from "./catalogue.js";

/** Model files on disk: where they lie, and whether a file is known to be whole. */

/** `STREAMSERVE_MODELS`, or `streamserve/models` in the user's cache directory. */
export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return env.STREAMSERVE_MODELS || userCache("models", env);
}

/** Path of the entry's file in the cache, present or not. */
export function cachedPath(entry: CatalogueEntry, env: NodeJS.ProcessEnv = process.env): string {
  return join(cacheDirectory(env), entry.file);
}

/**
 * True when the cache holds the entry's file, whole. The checksum is computed once; a marker beside the file
 * remembers it for as long as size and modification time stay the same.
 */
export async function isCached(
  entry: CatalogueEntry,
  env: NodeJS.ProcessEnv = process.env,
): Promise<boolean> {
  const path = cachedPath(entry, env);
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || found.size !== entry.bytes) {
    return false;
  }
  const mark = markOf(entry, found.mtimeMs);
  if ((await readFile(markerPath(path), "utf8").catch(() => "")) === mark) {
    return true;
  }
  if ((await sha256Of(path)) !== entry.sha256) {
    return false;
  }
  // A cache that can't be written still serves; it is only checked again at the next start.
  await writeFile(markerPath(path), mark).catch(() => undefined);
  return true;
}

/** Moves a file whose checksum has been verified into the cache, in one step for whoever looks. */
export async function keep(verified: string, entry: CatalogueEntry, env: NodeJS.ProcessEnv = process.env) {
  const path = cachedPath(entry, env);
  const { mtimeMs } = await stat(verified);
  await rm(markerPath(path), { force: true });
  await rename(verified, path);
  await writeFile(markerPath(path), markOf(entry, mtimeMs));
  return path;
}

/** Throws `disk_full` unless `directory` (created if absent) has room for `bytes`, `model_download_failed` if it can't be. */
export async function requireSpace(directory: string, bytes: number): Promise<void> {
  await makeDirectory(directory).catch((error: unknown) => {
    throw unwritable(directory, error);
  });
  const disk = await statfs(directory);
  const free = disk.bavail * disk.bsize;
  if (free < bytes) {
    throw diskFull(directory, `has ${megabytes(free)} MB free and ${megabytes(bytes)} MB are needed`, {
      neededBytes: bytes,
      freeBytes: free,
    });
  }
}

/** `model_download_failed`: a directory that can't be made or written. */
export function unwritable(directory: string, cause: unknown): StreamServeError {
  const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
  const sentence = `${directory} can't be written (${why}): set STREAMSERVE_MODELS to a directory of yours.`;
  return new StreamServeError("model_download_failed", sentence, { directory }, { cause });
}

/** Node's own recursive mkdir tries for ever where the system says of a child that its parent is not there: /proc. */
async function makeDirectory(path: string): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) await makeDirectory(parent);
  await mkdir(path).catch(async (error: unknown) => {
    // Another process may have been quicker.
    if (!(await stat(path).catch(() => undefined))?.isDirectory()) throw error;
  });
}

/** `disk_full`: what is short, and the way out. */
export function diskFull(
  directory: string,
  shortage: string,
  numbers: Readonly<Record<string, number>> = {},
): StreamServeError {
  const remedy = "make room, or set STREAMSERVE_MODELS to a directory on another disk";
  return new StreamServeError("disk_full", `${directory} ${shortage} for the model: ${remedy}.`, numbers);
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

function markerPath(path: string): string {
  return `${path}.verified`;
}

function markOf(entry: CatalogueEntry, mtimeMs: number): string {
  return `${entry.sha256} ${entry.bytes} ${mtimeMs}\n`;
}

function megabytes(bytes: number): number {
  return Math.ceil(bytes / 1e6);
}
