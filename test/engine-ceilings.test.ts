import { expect, test } from "vitest";
import { measureCeilings } from "../dist/engine/ceilings.js";

test("ceilings of the portable family are measured on any machine", () => {
  const ceilings = measureCeilings("portable", 1, 1 << 20);
  for (const rate of Object.values(ceilings)) expect(rate).toBeGreaterThan(1e6);
});

test.each([
  ["an unknown family", "no-such-family", 1, 4096],
  ["no threads", "portable", 0, 4096],
  ["too many threads", "portable", 1e6, 4096],
  ["a negative size", "portable", 1, -1],
  ["a size that is no number", "portable", 1, Number.NaN],
  ["a size beyond any memory", "portable", 1, 1e15],
])("what can't be measured is refused with a code: %s", (_, family, threads, bytes) => {
  expect(() => measureCeilings(family, threads, bytes)).toThrow(
    expect.objectContaining({ code: "native_argument_invalid" }),
  );
});
