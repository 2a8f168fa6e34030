import { createRequire } from "node:module";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { closeEngine, type EngineInfo, NativeLane, openEngine } from "../dist/engine/native-engine.js";
import { ERROR_CODES } from "../dist/errors.js";
import { generate, sampling } from "./generate.js";
import { ModelDirectory, tinyModel } from "./tiny-model.js";

/** The addon's own functions, called with anything: an error with a code each time, and the process lives. */

type Call = (...values: unknown[]) => unknown;
const addon: Record<string, Call> = createRequire(import.meta.url)("../build/Release/streamserve.node");

const directory = new ModelDirectory();
let engine: EngineInfo;
let lane: NativeLane;

beforeAll(() => {
  engine = openEngine({ path: directory.write(tinyModel()), kvTokens: 256 });
  lane = new NativeLane({ engine, lane: 0, role: "decode", maxRows: 4, maxBatchTokens: 32 });
});

afterAll(() => {
  lane.close();
  closeEngine(engine.id);
  directory.dispose();
});

function detached(): Uint32Array {
  const array = new Uint32Array(4);
  structuredClone(array.buffer, { transfer: [array.buffer] });
  return array;
}

const anything = fc.oneof(
  fc.integer({ min: -2, max: 4 }),
  fc.double(),
  fc.boolean(),
  fc.string({ maxLength: 8 }),
  fc.constantFrom(undefined, null, {}, [], Symbol("x"), 10n, () => 1, 2 ** 32, Number.NaN),
  fc.int32Array({ maxLength: 24 }),
  fc.uint32Array({ maxLength: 12 }),
  fc.float32Array({ maxLength: 12 }),
  fc.float64Array({ minLength: 10, maxLength: 10 }),
  fc.constant(new Uint32Array(new SharedArrayBuffer(16))),
  fc.constant(new Float32Array(96)),
);

test("every function takes any arguments", () => {
  // Ceilings take half a second each and no pointers.
  const names = Object.keys(addon).filter((name) => name !== "measureCeilings");
  expect(names.length).toBeGreaterThan(12);
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.array(anything, { maxLength: 9 }), (name, values) => {
      // The engine and lane of the other tests stay open.
      if (/^close/.test(name)) values[0] = 1_000_000;
      try {
        addon[name]!(...values);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
        expect(Object.keys(ERROR_CODES)).toContain((error as { code?: string }).code);
      }
    }),
    { numRuns: 5000 },
  );
  expect(lane.kv().totalBlocks).toBe(8);
});

test("detached and short arrays are refused", () => {
  const invalid = expect.objectContaining({ code: "native_argument_invalid" }) as unknown as Error;
  expect(() => addon.kv!(engine.id, detached())).toThrowError(invalid);
  expect(() => addon.kv!(engine.id, new Uint32Array(4))).toThrowError(invalid);
  expect(() => addon.collect!(1, new Int32Array(1), new Float32Array(1))).toThrowError(invalid);
  expect(() => addon.submit!(1, new Int32Array(0))).toThrowError(invalid);
  expect(() => addon.submit!(1, Int32Array.of(-1, 0, 0, 0, 0, 0))).toThrowError(invalid);
  expect(() => addon.submit!(1, Int32Array.of(1, 0, 0, 2 ** 31 - 1, 0, 0, 5))).toThrowError(invalid);
  expect(() => lane.score(Uint32Array.of(1, 2), 2)).toThrowError(invalid);
});

test("packed batches of any numbers are refused or computed, and the lane goes on", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -2, max: 40 }), { maxLength: 30 }), (numbers) => {
      const { handle } = lane.createSequence(Uint32Array.of(1), 1, sampling());
      const batch = Int32Array.from([1, handle.index, handle.epoch, ...numbers]);
      const integers = new Int32Array(4 * 4 + 32 * 21);
      try {
        addon.submit!(1, batch);
        addon.collect!(1, integers, new Float32Array(3 + 32 * 21));
      } catch (error) {
        expect(Object.keys(ERROR_CODES)).toContain((error as { code?: string }).code);
      }
      lane.release(handle);
    }),
    { numRuns: 500 },
  );
  expect(generate(lane, Uint32Array.of(1, 2, 3), 3, sampling()).tokens).toHaveLength(3);
});
