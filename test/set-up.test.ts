import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

/**
 * Setting up a copy of the repository. Its compilers are stand-ins that note each call, so that what is asked
 * here is when they run and what is said of their failures; the real ones run in every set-up of this project.
 */

const ROOT = fileURLToPath(new URL("..", import.meta.url));

let clone: string;
let bin: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), "set-up-"));
  bin = join(clone, "bin");
  mkdirSync(bin);
  for (const name of ["scripts", "package.json", "package-lock.json"]) {
    cpSync(join(ROOT, name), join(clone, name), { recursive: true });
  }
  for (const name of ["src/native", "src/cli", "node_modules/typescript/bin"]) {
    mkdirSync(join(clone, name), { recursive: true });
  }
  writeFileSync(join(clone, "src/native/engine.cpp"), "");
  writeFileSync(join(clone, "src/cli/main.ts"), "");
  writeFileSync(join(clone, "tsconfig.json"), "{}");
  cpSync(join(ROOT, "node_modules/.package-lock.json"), join(clone, "node_modules/.package-lock.json"));
  const append = (text: string) => `appendFileSync("calls", ${text} + "\\n");`;
  writeFileSync(
    join(clone, "command.js"),
    `import { appendFileSync } from "node:fs"; ${append("process.argv.slice(2).join()")}`,
  );
  writeFileSync(
    join(clone, "node_modules/typescript/bin/tsc"),
    `const { appendFileSync, copyFileSync, mkdirSync } = require("node:fs"); ${append('"tsc"')}
     mkdirSync("dist/cli", { recursive: true }); copyFileSync("command.js", "dist/cli/main.js");`,
  );
  writeFileSync(
    join(clone, "scripts/bundle.mjs"),
    `import { appendFileSync, copyFileSync, mkdirSync } from "node:fs"; ${append('"bundle"')}
     mkdirSync("dist/bundle", { recursive: true }); copyFileSync("command.js", "dist/bundle/main.js");`,
  );
  tool(
    "make",
    '[ "$1" = --version ] && exit; echo make >> calls; mkdir -p build/Release; : > build/Release/streamserve.node',
  );
  tool("g++", "");
  tool("npm", "echo npm $* >> calls; echo 'npm error code ENOTFOUND'; exit 1");
});

afterEach(() => rmSync(clone, { recursive: true, force: true }));

function tool(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
}

/** Runs a script of the copy with the stand-ins alone on PATH, and what a shell script needs. */
function run(script = "set-up.mjs", ...args: readonly string[]) {
  for (const name of ["sh", "mkdir"]) {
    const real = execFileSync("/bin/sh", ["-c", `command -v ${name}`])
      .toString()
      .trim();
    if (!existsSync(join(bin, name))) symlinkSync(real, join(bin, name));
  }
  const env = { ...process.env, PATH: bin };
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(clone, "scripts", script), ...args], {
    cwd: clone,
    env,
  });
  return { status, stdout: stdout.toString(), stderr: stderr.toString() };
}

function calls(): readonly string[] {
  return existsSync(join(clone, "calls"))
    ? readFileSync(join(clone, "calls"), "utf8").trim().split("\n").sort()
    : [];
}

/** Makes a file look edited, whatever the file system's clock resolution. */
function touch(name: string): void {
  const later = new Date(Date.now() + 5000);
  utimesSync(join(clone, name), later, later);
}

describe("what is up to date", () => {
  test("is left alone: a second run calls nothing and says nothing", () => {
    expect(run()).toMatchObject({ status: 0 });
    expect(calls()).toEqual(["bundle", "make", "tsc"]);
    expect(run()).toEqual({ status: 0, stdout: "", stderr: "" });
    expect(calls()).toEqual(["bundle", "make", "tsc"]);
  });

  test("is made again when a source, or an output, has changed", () => {
    run();
    touch("src/native/engine.cpp");
    run();
    expect(calls().filter((call) => call === "make")).toHaveLength(2);
    rmSync(join(clone, "dist"), { recursive: true });
    run();
    expect(calls().filter((call) => call === "make")).toHaveLength(2);
    expect(existsSync(join(clone, "dist/cli/main.js"))).toBe(true);
  });

  test("dependencies are installed when the lock file asks for a version that is not there", () => {
    const lock = readFileSync(join(clone, "package-lock.json"), "utf8");
    const version = JSON.parse(lock).packages["node_modules/zod"].version;
    writeFileSync(
      join(clone, "package-lock.json"),
      lock.replaceAll(`"version": "${version}"`, '"version": "999.0.0"'),
    );
    const { status, stderr } = run();
    expect(calls()).toEqual(["npm ci --include=dev --no-progress"]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^install_failed: npm could not install .*check the network.*\n$/m);
    expect(stderr).toContain("npm error code ENOTFOUND");
  });

  test("the command runs with its arguments", () => {
    expect(run("start.mjs", "bench", "load", "--help")).toMatchObject({ status: 0 });
    expect(calls()).toContain("bench,load,--help");
  });

  test("the model that serve names is fetched beside the compilers, and not again once all is built", () => {
    run("start.mjs", "serve", "--model", "m", "--port=1", "--config=c");
    expect(calls()).toEqual([
      "bundle",
      "make",
      "pull,--model,m,--config=c",
      "serve,--model,m,--port=1,--config=c",
      "tsc",
    ]);
    run("start.mjs", "serve");
    expect(calls().filter((call) => call.startsWith("pull"))).toHaveLength(1);
  });
});

describe("what is missing", () => {
  test.each(["make", "g++"])("%s is named, with how to get it", (name) => {
    rmSync(join(bin, name));
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `^tool_missing: ${name.replaceAll("+", "\\+")} is missing: .*apt-get install ${name.replaceAll("+", "\\+")}`,
        "m",
      ),
    );
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  test("npm is named", () => {
    rmSync(join(bin, "npm"));
    rmSync(join(clone, "node_modules/.package-lock.json"));
    expect(run()).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^tool_missing: npm could not be run/m),
    });
  });

  test("a compiler's complaint is shown, and nothing is taken for built", () => {
    tool("make", '[ "$1" = --version ] && exit; echo "engine.cpp:1: error: no"; exit 2');
    const { status, stderr } = run();
    expect(status).toBe(1);
    expect(stderr).toMatch(/^build_failed: the native engine does not compile: .*\n$/m);
    expect(stderr).toContain("engine.cpp:1: error: no");
    expect(run().status).toBe(1);
  });
});
