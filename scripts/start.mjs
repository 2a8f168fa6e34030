/**
 * `npm start -- [arguments of streamserve serve]`: sets up what is missing, then serves in this process.
 * `npm run streamserve -- <command>` comes through here too.
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { nativeIsStale, orExplain, root, setUp } from "./set-up.mjs";

const args = process.argv.slice(2);

/** The arguments that decide which model is served, for `pull` to fetch it while the native engine compiles. */
function modelArguments() {
  return args.flatMap((arg, at) => {
    if (arg === "--model" || arg === "--config") {
      return args.slice(at, at + 2);
    }
    return /^--(model|config)=/.test(arg) ? [arg] : [];
  });
}

await orExplain(async () => {
  await setUp(args[0] === "serve" && nativeIsStale() ? { pull: modelArguments() } : {});
  const main = join(root, "dist/bundle/main.js");
  process.argv = [process.execPath, main, ...args];
  await import(pathToFileURL(main).href);
});
