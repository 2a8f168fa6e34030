import { execFile } from "node:child_process";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { closeEngine, type EngineInfo, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { ModelDirectory, TINY, tinyModel } from "./tiny-model.js";

/** Packed weights kept on disk: the next start uses them, and no file there can make it go wrong. */

const models = new ModelDirectory();
const scratch = mkdtempSync(join(tmpdir(), "streamserve-packed-"));
afterAll(() => {
  models.dispose();
  rmSync(scratch, { recursive: true, force: true });
});

const MANY = 2 ** 40;
const ids = Uint32Array.from({ length: 24 }, (_, i) => (i * 37) % TINY.vocabulary);
const model = models.write(tinyModel({ seed: 3 }));
let directory: string;
let next = 0;
beforeEach(() => {
  directory = join(scratch, String(next++));
});

/** How the weights were had, what was said of it, and what the model then computes. */
function start(
  options: { path?: string; bytes?: number; copy?: boolean; exact?: boolean; at?: string } = {},
) {
  const engine: EngineInfo = openEngine({
    path: options.path ?? model,
    kvTokens: 64,
    threads: 2,
    exact: options.exact ?? false,
    cache: {
      directory: options.at ?? directory,
      bytes: options.bytes ?? MANY,
      copy: options.copy ?? false,
    },
  });
  try {
    const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 32 });
    const scores = lane.score(ids);
    lane.close();
    return { from: engine.weightsFrom, notice: engine.notice, scores };
  } finally {
    closeEngine(engine.id);
  }
}

const files = () => readdirSync(directory).map((name) => join(directory, name));
const truth = start({ bytes: 0 }).scores;

test("the second start finds what the first one packed, and computes the same", () => {
  const first = start();
  expect(first).toEqual({ from: "stored", notice: "", scores: truth });
  expect(start()).toEqual({ from: "cache", notice: "", scores: truth });
  expect(start({ copy: true })).toEqual({ from: "cache", notice: "", scores: truth });
  expect(files()).toHaveLength(1);
});

test("turned off, nothing is written", () => {
  expect(start({ bytes: 0 }).from).toBe("packed");
  expect(() => readdirSync(directory)).toThrow();
});

test("an exact engine and another file of the same shape have files of their own", () => {
  start();
  expect(start({ exact: true }).from).toBe("stored");
  const other = models.write(tinyModel({ seed: 4 }));
  const found = start({ path: other });
  expect(found.from).toBe("stored");
  expect(found.scores).not.toEqual(truth);
  expect(files()).toHaveLength(3);
});

test("a model file that is written anew, same size and time, is not taken for the old one", () => {
  const path = models.write(tinyModel({ seed: 5 }));
  const { atimeMs, mtimeMs } = statSync(path);
  const before = start({ path });
  writeFileSync(path, tinyModel({ seed: 6 }));
  utimesSync(path, atimeMs / 1000, mtimeMs / 1000);
  const after = start({ path });
  expect(after.from).toBe("stored");
  expect(after.scores).not.toEqual(before.scores);
});

describe("a damaged file is ignored, named and replaced", () => {
  test("whatever byte is changed", () => {
    start();
    const [path = ""] = files();
    const whole = readFileSync(path);
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 0, max: 4095 }), fc.integer({ min: 0, max: whole.length - 1 })),
        fc.integer({ min: 1, max: 255 }),
        (at, change) => {
          const damaged = Buffer.from(whole);
          damaged[at]! ^= change;
          writeFileSync(path, damaged);
          const found = start();
          expect(found.from).toBe("stored");
          expect(found.notice).toContain(path);
          expect(found.scores).toEqual(truth);
          expect(readFileSync(path).equals(whole)).toBe(true);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("wherever it is cut off, and when something is appended", () => {
    start();
    const [path = ""] = files();
    const whole = readFileSync(path);
    for (const length of [0, 1, 8, 135, 4095, 4096, 4097, whole.length - 1]) {
      truncateSync(path, length);
      expect(start()).toMatchObject({ from: "stored", notice: expect.stringContaining(path), scores: truth });
    }
    writeFileSync(path, Buffer.concat([whole, Buffer.from("more")]));
    expect(start()).toMatchObject({ from: "stored", notice: expect.stringContaining(path), scores: truth });
    expect(start().notice).toBe("");
  });

  test("a foreign file under its name", () => {
    start();
    const [path = ""] = files();
    writeFileSync(path, Buffer.alloc(5000, "foreign"));
    expect(start()).toMatchObject({ from: "stored", notice: expect.stringMatching(/no file of packed/) });
  });

  test("the packed weights of another model under its name", () => {
    start({ path: models.write(tinyModel({ seed: 8 })) });
    const [foreign = ""] = files();
    const bytes = readFileSync(foreign);
    rmSync(foreign);
    start();
    writeFileSync(files()[0]!, bytes);
    expect(start()).toMatchObject({
      from: "stored",
      notice: expect.stringMatching(/other weights/),
      scores: truth,
    });
  });
});

describe("where nothing can be kept the engine runs without, and says so once", () => {
  test("a directory that can't be made", () => {
    const file = join(scratch, `file-${next}`);
    writeFileSync(file, "");
    const found = start({ at: join(file, "below") });
    expect(found).toMatchObject({ from: "packed", scores: truth });
    expect(found.notice).toMatch(/not kept for the next start/);
  });

  test("a limit smaller than the weights", () => {
    const found = start({ bytes: 5000 });
    expect(found).toMatchObject({ from: "packed", scores: truth });
    expect(found.notice).toMatch(/engine\.packedCacheBytes/);
    expect(files).toThrow();
  });

  test("a disk that is full", async () => {
    // A process that may write no file larger than 16 KiB stands in for it: the write fails half way.
    const script = `
      import { openEngine } from ${JSON.stringify(new URL("../dist/engine/native-engine.js", import.meta.url).href)};
      process.on("SIGXFSZ", () => {});
      const cache = { directory: ${JSON.stringify(directory)}, bytes: 2 ** 40, copy: false };
      const { weightsFrom, notice } = openEngine({ path: ${JSON.stringify(model)}, kvTokens: 64, cache });
      console.log(JSON.stringify({ weightsFrom, notice }));`;
    const file = join(scratch, "limited.mjs");
    writeFileSync(file, script);
    const { stdout } = await promisify(execFile)("bash", [
      "-c",
      `ulimit -f 16; exec "$0" "$1"`,
      process.execPath,
      file,
    ]);
    const { weightsFrom, notice } = JSON.parse(stdout);
    expect(weightsFrom).toBe("packed");
    expect(notice).toMatch(/cannot write/);
    expect(files()).toEqual([]);
  });
});

test("the least recently used make room, and what a killed process left goes", () => {
  const paths = [11, 12, 13].map((seed) => models.write(tinyModel({ seed })));
  start({ path: paths[0]! });
  const size = statSync(files()[0]!).size;
  start({ path: paths[1]! });
  const [a = "", b = ""] = files();
  for (const path of [a, b]) utimesSync(path, 1000, 1000);
  // Used again, so that the other one is the older.
  expect(start({ path: paths[0]! }).from).toBe("cache");
  const abandoned = join(directory, "x.123.packed.tmp");
  const foreign = join(directory, "notes.txt");
  for (const path of [abandoned, foreign]) {
    writeFileSync(path, "");
    utimesSync(path, 1000, 1000);
  }
  expect(start({ path: paths[2]!, bytes: 2.5 * size }).from).toBe("stored");
  expect(start({ path: paths[0]!, bytes: 2.5 * size }).from).toBe("cache");
  expect(start({ path: paths[2]!, bytes: 2.5 * size }).from).toBe("cache");
  expect(files()).toHaveLength(3);
  expect(files()).toContain(foreign);
  expect(start({ path: paths[1]!, bytes: 2.5 * size }).from).toBe("stored");
});

test("an engine goes on computing when its file is replaced or removed", () => {
  start();
  const engine = openEngine({ path: model, kvTokens: 64, cache: { directory, bytes: MANY, copy: false } });
  expect(engine.weightsFrom).toBe("cache");
  rmSync(files()[0]!);
  const lane = new NativeLane({ engine, lane: 0, role: "prefill", maxRows: 1, maxBatchTokens: 32 });
  expect(lane.score(ids)).toEqual(truth);
  lane.close();
  closeEngine(engine.id);
});

test("processes that start at once all get whole weights", async () => {
  const script = `
    import { openEngine } from ${JSON.stringify(new URL("../dist/engine/native-engine.js", import.meta.url).href)};
    const cache = { directory: ${JSON.stringify(directory)}, bytes: 2 ** 40, copy: false };
    for (let i = 0; i < 20; i++) {
      const { weightsFrom, notice } = openEngine({ path: ${JSON.stringify(model)}, kvTokens: 64, cache });
      if (notice !== "" || weightsFrom === "packed") throw new Error(weightsFrom + notice);
    }`;
  const file = join(scratch, "at-once.mjs");
  writeFileSync(file, script);
  await Promise.all(Array.from({ length: 4 }, () => promisify(execFile)(process.execPath, [file])));
  expect(files()).toHaveLength(1);
  expect(start()).toMatchObject({ from: "cache", scores: truth });
});
