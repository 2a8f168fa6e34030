import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** Where downloads and builds of the bench live: outside the repository, by the XDG convention. Made if missing. */
export function cacheDirectory(...parts: string[]): string {
  const root = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const directory = join(root, "streamserve", "bench", ...parts);
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Names this processor: a build for "the native machine" is good for no other. */
export function processorKey(): string {
  let flags = "";
  try {
    flags = /^(?:flags|Features)\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0] ?? "";
  } catch {
    // No /proc: one build a machine name has to do.
  }
  return createHash("sha256")
    .update(`${process.platform} ${process.arch} ${flags}`)
    .digest("hex")
    .slice(0, 12);
}
