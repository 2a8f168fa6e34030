/**
 * Decides whether an output is older than what it was made from, cheaply enough to ask at every start.
 * Built-in modules alone: this runs before any dependency is installed.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Hash of the paths, sizes and modification times of all files under `roots`; contents are not read. */
export function fingerprint(roots) {
  const hash = createHash("sha256").update(process.version);
  for (const root of roots) {
    addTo(hash, root);
  }
  return hash.digest("hex");
}

function addTo(hash, path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) {
    hash.update(`${path}\0absent\0`);
  } else if (stat.isDirectory()) {
    for (const name of readdirSync(path).sort()) {
      addTo(hash, join(path, name));
    }
  } else {
    hash.update(`${path}\0${stat.size}\0${stat.mtimeMs}\0`);
  }
}

/** True when every output exists and `stamp` holds this fingerprint. */
export function isFresh(stamp, print, outputs) {
  return (
    existsSync(stamp) && outputs.every((path) => existsSync(path)) && readFileSync(stamp, "utf8") === print
  );
}

export function markFresh(stamp, print) {
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, print);
}

/**
 * True when node_modules holds each required package of the lock file in its locked version. npm keeps a copy
 * of what it installed in node_modules/.package-lock.json; packages for other platforms may be absent.
 */
export function dependenciesInstalled(root) {
  const installedFile = join(root, "node_modules", ".package-lock.json");
  if (!existsSync(installedFile)) {
    return false;
  }
  const locked = packagesOf(join(root, "package-lock.json"));
  const installed = packagesOf(installedFile);
  return Object.entries(locked).every(
    ([path, wanted]) => path === "" || wanted.optional || installed[path]?.version === wanted.version,
  );
}

function packagesOf(file) {
  return JSON.parse(readFileSync(file, "utf8")).packages;
}
