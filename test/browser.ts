import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

/** A real browser for tests of the page: Chromium or Chrome as the machine has it. */

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/** Where it is; undefined on a machine without one. `CHROME_PATH` goes before the names on PATH. */
export function findBrowser(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const onPath = (env.PATH ?? "")
    .split(delimiter)
    .flatMap((directory) => NAMES.map((name) => join(directory, name)));
  return [...(env.CHROME_PATH ? [env.CHROME_PATH] : []), ...onPath].find(isExecutable);
}

export function launch(executablePath: string): Promise<Browser> {
  // Chromium's sandbox refuses to work for root, which tests in containers are.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
