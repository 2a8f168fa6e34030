import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BenchError } from "../bench-error.js";
import { cacheDirectory } from "../cache.js";
import { runChild } from "../child.js";

/** The sources compile to dist/bench/peer; what Python reads stays in bench/peer/python. */
const PYTHON = new URL("../../../bench/peer/python/", import.meta.url);
/** The largest peer is some 3 GB of packages. */
const INSTALL_TIMEOUT_MS = 1_800_000;

export function pythonFile(name: string): string {
  return fileURLToPath(new URL(name, PYTHON));
}

/**
 * The directory of a virtual environment of `python3` with the very packages that `<name>.txt` lists, below the bench's
 * cache; installed on first use. `remark`: what to know when it can't be installed. Throws BenchError.
 */
export async function pythonVenv(name: string, remark: string, say: (text: string) => void): Promise<string> {
  const list = pythonFile(`${name}.txt`);
  const version = createHash("sha256").update(readFileSync(list)).digest("hex").slice(0, 12);
  const venv = join(cacheDirectory("python"), `${name}-${version}`);
  const installed = join(venv, "installed");
  if (existsSync(installed)) return venv;
  say(`installing ${name} from PyPI (once)`);
  rmSync(venv, { recursive: true, force: true });
  const remedy = "install Python 3.11 or later with venv (Debian: apt-get install python3-venv)";
  await runChild("python3", ["-m", "venv", venv], { timeoutMs: INSTALL_TIMEOUT_MS, remedy });
  try {
    // Without dependencies: the list is whole, and some packages ask for builds that PyPI hasn't.
    await runChild(join(venv, "bin", "pip"), ["install", "--quiet", "--no-deps", "-r", list], {
      timeoutMs: INSTALL_TIMEOUT_MS,
    });
  } catch (error) {
    throw new BenchError(`${name} can't be installed here. ${remark}\n${(error as Error).message}`);
  }
  writeFileSync(installed, "");
  return venv;
}
