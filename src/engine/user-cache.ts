import { homedir } from "node:os";
import { join } from "node:path";
import { StreamServeError } from "../errors.js";

/**
 * `streamserve/NAME` in the user's cache directory: `XDG_CACHE_HOME`, or `.cache` at home. Throws `config_invalid` where
 * there is neither: a user of a container may be a number alone.
 */
export function userCache(name: string, env: NodeJS.ProcessEnv): string {
  return join(env.XDG_CACHE_HOME || join(home(), ".cache"), "streamserve", name);
}

function home(): string {
  let found = "";
  try {
    found = homedir();
  } catch {
    // No HOME, and no entry among the system's users.
  }
  if (found !== "") return found;
  throw new StreamServeError(
    "config_invalid",
    "This user has no home directory: set XDG_CACHE_HOME to a directory for models and packed weights.",
  );
}
