/**
 * Joins the compiled modules and the packages they use into a few files in dist/bundle: Node finds, reads and links some
 * 500 files slower than it runs them. What a start runs is CommonJS, so that the code which V8 compiled can be kept
 * beside it (scripts/bundle-loader.cjs). The directory is as deep as those that the modules come from: paths relative
 * to a module stay true. Nothing is renamed: errors show readable lines.
 */
import { spawnSync } from "node:child_process";
import { copyFile, mkdir, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const outdir = join(dist, "bundle");

/**
 * The programs. `main` runs one; `start` has what a start runs, whose code is kept.
 * Packages look for the file of their thread beside their own: piscina's is worker.js.
 */
const programs = {
  main: { main: "cli/main.js", start: ["cli/serve.js", "gateway/serve-core.js", "gateway/log.js"] },
  "worker-main": {
    main: "actors/thread.js",
    start: [
      ...["threaded-actor", "worker-loop", "endpoint"].map((name) => `runtime/threads/${name}.js`),
      ...["messages", "scheduler", "router", "prefill-lane", "decode-lane", "tuner", "lane-resources"].map(
        (name) => `actors/${name}.js`,
      ),
    ],
  },
  "encode-worker": {
    main: "model/encode-worker.js",
    start: ["model/encoder.js", "model/chat-template.js"],
    // piscina asks for a function.
    exported: "module.exports = async (task) => (await loaded).default(task);",
  },
};

const common = {
  outdir,
  bundle: true,
  platform: "node",
  target: "node20",
  // Needed for a fetch alone; native, and only where threads are to be nicer.
  external: ["@huggingface/hub", "@napi-rs/nice"],
  logLevel: "warning",
};

const commonJs = {
  ...common,
  format: "cjs",
  define: { "import.meta.url": "urlOfBundle", "import.meta.resolve": "resolveOfBundle" },
  banner: {
    js: 'const urlOfBundle = require("node:url").pathToFileURL(__filename).href; const resolveOfBundle = (name) => require("node:url").pathToFileURL(require.resolve(name)).href;',
  },
};

await rm(outdir, { recursive: true, force: true });
await mkdir(outdir, { recursive: true });
await Promise.all([
  writeFile(join(outdir, "package.json"), '{ "type": "commonjs" }\n'),
  copyFile(join(root, "scripts/bundle-loader.cjs"), join(outdir, "load.js")),
  ...Object.entries(programs).map(([name, program]) => bundleProgram(name, program)),
  build({
    ...commonJs,
    entryPoints: { worker: join(dirname(createRequire(import.meta.url).resolve("piscina")), "worker.js") },
  }),
  bundleLibrary(),
  bundleBrowserClient(),
]);
const made = spawnSync(process.execPath, [join(outdir, "load.js"), ...Object.keys(programs)], {
  stdio: ["ignore", "inherit", "inherit"],
});
process.exitCode = made.status ?? 1;

async function bundleProgram(name, { main, start, exported = "" }) {
  const load = (path) => `import(${JSON.stringify(`./${path}`)})`;
  const { outputFiles } = await build({
    ...commonJs,
    write: false,
    stdin: {
      contents: `export const main = () => ${load(main)};\nexport const start = () => Promise.all([${start.map(load).join(", ")}]);\n`,
      resolveDir: dist,
    },
    outdir: undefined,
    outfile: join(outdir, `${name}.bundle.js`),
  });
  // What is imported from outside the bundle, the loader imports.
  const text = outputFiles[0].text.replaceAll(/\bimport\(/g, "importOfBundle(");
  await writeFile(join(outdir, `${name}.bundle.js`), text);
  const entry = `#!/usr/bin/env node\nconst loaded = require("./load.js").run("${name}");\n${exported}`;
  await writeFile(join(outdir, `${name}.js`), entry, { mode: 0o755 });
}

/** What other programs import, as modules: parts that doors share, and the classes in them, are there once. */
async function bundleLibrary() {
  await build({
    ...common,
    format: "esm",
    splitting: true,
    outExtension: { ".js": ".mjs" },
    entryPoints: {
      index: join(dist, "index.js"),
      "websocket-client": join(dist, "client/websocket-client.js"),
    },
    // CommonJS packages among the modules ask for Node's own, and for their place.
    banner: {
      js: 'import { createRequire as createRequireOfBundle } from "node:module"; import { dirname as dirnameOfBundle } from "node:path"; import { fileURLToPath as pathOfBundle } from "node:url"; const require = createRequireOfBundle(import.meta.url); const __dirname = dirnameOfBundle(pathOfBundle(import.meta.url));',
    },
  });
}

/** The client for pages: one module that asks for nothing of Node's. */
async function bundleBrowserClient() {
  await build({
    ...common,
    platform: "browser",
    target: "es2022",
    format: "esm",
    entryPoints: { "websocket-client.browser": join(dist, "client/websocket-client.js") },
    outExtension: { ".js": ".mjs" },
  });
}
