import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

/** The package as programs import it, by its name. */

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);

test("its doors share one set of classes", async () => {
  const program = `
    import { StreamServeError } from "streamserve";
    import { StreamServeClient } from "streamserve/client";
    import { ActorSystem } from "streamserve/runtime";
    const refused = await StreamServeClient.connect("ws://127.0.0.1:1/v1/stream").catch((error) => error);
    console.log(refused instanceof StreamServeError, refused.code, typeof ActorSystem.start);`;
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", program], { cwd: ROOT });
  expect(stdout).toBe("true connection_failed function\n");
});

/** Packed, and installed in a project of its own beside the packages that it depends on. */
describe("installed", () => {
  const PROGRAM = `
    import { StreamServe } from "streamserve";
    import { StreamServeClient } from "streamserve/client";
    import { ActorSystem } from "streamserve/runtime";
    const serve = await StreamServe.start({ config: { engine: { kvTokens: 512 } } });
    const { text, usage } = await serve.complete({ prompt: "The sea", maxTokens: 4, ignoreEos: true }).completion();
    console.log(text.length > 0, usage.outputTokens, typeof StreamServeClient, typeof ActorSystem);
    await serve.close();`;

  let project: string;
  let installed: string;

  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), "an installed pack\u00e4ge-"));
    installed = join(project, "node_modules/streamserve");
    await run("npm", ["pack", "--ignore-scripts", "--pack-destination", project], { cwd: ROOT });
    mkdirSync(installed, { recursive: true });
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
    await run("tar", [
      "-xzf",
      join(project, `streamserve-${version}.tgz`),
      "-C",
      installed,
      "--strip-components=1",
    ]);
    const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
    for (const name of [...Object.keys(dependencies), "@types/node"]) {
      const link = join(project, "node_modules", name);
      mkdirSync(dirname(link), { recursive: true });
      symlinkSync(join(ROOT, "node_modules", name), link);
    }
    writeFileSync(join(project, "package.json"), '{ "type": "module" }');
    writeFileSync(join(project, "program.ts"), PROGRAM);
  });

  afterAll(() => rmSync(project, { recursive: true, force: true }));

  test("without a compiler it has all but the engine, and says how to get that", async () => {
    const bin = mkdtempSync(join(project, "bin-"));
    const { stderr } = await run(process.execPath, [join(installed, "scripts/install.mjs")], {
      env: { ...process.env, PATH: bin },
    });
    expect(stderr).toMatch(/streamserve: installed without its engine: make is missing: /);
    const { stdout } = await run(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `import { StreamServe } from "streamserve"; await StreamServe.start().catch((e) => console.log(e.code, e.message));`,
      ],
      { cwd: project },
    );
    expect(stdout).toMatch(/^native_addon_missing .*run "npm run build" in .*node_modules\/streamserve/);
  });

  // Objects of the same sources need not be compiled again: the archive's files are older.
  test("its script builds the engine, and a program of strict types runs", { timeout: 900_000 }, async () => {
    cpSync(join(ROOT, "build/obj/Release"), join(installed, "build/obj/Release"), {
      recursive: true,
      preserveTimestamps: true,
    });
    await run(process.execPath, [join(installed, "scripts/install.mjs")]);
    expect(existsSync(join(installed, "build/Release/streamserve.node"))).toBe(true);
    const compiler = join(ROOT, "node_modules/typescript/bin/tsc");
    const strict =
      "--strict --exactOptionalPropertyTypes --skipLibCheck false --target es2022 --types node".split(" ");
    await run(process.execPath, [compiler, ...strict, "--module", "nodenext", "program.ts"], {
      cwd: project,
    });
    await run(
      process.execPath,
      [compiler, ...strict, "--module", "esnext", "--moduleResolution", "bundler", "--noEmit", "program.ts"],
      { cwd: project },
    );
    const { stdout } = await run(process.execPath, ["program.js"], { cwd: project });
    expect(stdout).toBe("true 4 function function\n");
  });

  test("a bundler that moves the library's code away from its files is named as the cause", async () => {
    const bundle = join(project, "elsewhere/one/bundle.mjs");
    await build({
      stdin: {
        contents: `import { StreamServe } from "streamserve"; await StreamServe.start().catch((e) => console.log(e.code, e.message));`,
        resolveDir: project,
      },
      bundle: true,
      platform: "node",
      format: "esm",
      outfile: bundle,
      logLevel: "silent",
    });
    const { stdout } = await run(process.execPath, [bundle]);
    expect(stdout).toMatch(/^native_addon_missing .*bundler.*make "streamserve" an external package/);
  });

  test("the client can be bundled for browsers, and asks for nothing of Node's", async () => {
    const { outputFiles } = await build({
      stdin: {
        contents: `import { StreamServeClient } from "streamserve/client"; globalThis.Client = StreamServeClient;`,
        resolveDir: project,
      },
      bundle: true,
      platform: "browser",
      format: "esm",
      write: false,
    });
    expect(outputFiles[0]?.text).toContain("StreamServeClient");
    expect(outputFiles[0]?.text).not.toMatch(/["']node:/);
  });
});
