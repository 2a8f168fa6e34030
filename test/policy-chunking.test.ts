import fc from "fast-check";
import { expect, test } from "vitest";
import { chunkTokens, orderPrefills } from "../dist/policy/chunking.js";

const AGING = 0.5;
const prompt = (name: string, remaining: number, since: number, offline = false) => ({
  name,
  remaining,
  since,
  offline,
});

test("short prompts come first, offline ones last", () => {
  const order = orderPrefills(
    [prompt("long", 900, 0), prompt("offline", 1, 0, true), prompt("short", 20, 0)],
    AGING,
  );
  expect(order.map(({ name }) => name)).toEqual(["short", "long", "offline"]);
});

test("a prompt of n tokens is overtaken only by those that come within n / aging milliseconds", () => {
  const lengths = fc.integer({ min: 1, max: 8000 });
  fc.assert(
    fc.property(lengths, lengths, fc.nat(20_000), (mine, other, later) => {
      const [first] = orderPrefills([prompt("other", other, later), prompt("mine", mine, 0)], AGING);
      if (later * AGING > mine) expect(first?.name).toBe("mine");
    }),
  );
});

test("a chunk takes what remains, as far as the budget goes", () => {
  expect([chunkTokens(100, 64), chunkTokens(10, 64)]).toEqual([64, 10]);
});
