/**
 * Joins the compiled modules and the packages they use into a few files in dist/bundle: Node finds, reads and links
 * some 500 files slower than it runs them. The directory is as deep as those that the modules come from, so that
 * paths relative to a module stay true. Nothing is renamed or squeezed: errors show readable lines.
 */
import { rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const dist = join(dirname(dirname(fileURLToPath(import.meta.url))), "dist");

/** CommonJS packages among the modules ask for Node's own. */
const banner = {
  js: 'import { createRequire as createRequireOfBundle } from "node:module"; const require = createRequireOfBundle(import.meta.url);',
};

const common = {
  outdir: join(dist, "bundle"),
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  banner,
  // piscina starts threads from a file of its own; the hub's client is needed for a fetch alone.
  external: ["piscina", "@huggingface/hub"],
  logLevel: "warning",
};

const at = (path) => join(dist, path);

await rm(common.outdir, { recursive: true, force: true });
await Promise.all([
  // What the main thread runs; parts shared by several of these, or loaded later, become files of their own.
  build({
    ...common,
    splitting: true,
    entryPoints: {
      main: at("cli/main.js"),
      index: at("index.js"),
      "websocket-client": at("client/websocket-client.js"),
    },
  }),
  // A thread's program is one file each.
  build({
    ...common,
    entryPoints: { "worker-main": at("actors/thread.js"), "encode-worker": at("model/encode-worker.js") },
  }),
]);
