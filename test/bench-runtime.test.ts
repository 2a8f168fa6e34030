import { expect, test } from "vitest";
import { timeFlood, timeMainRoundTrips, timeRoundTrips } from "../dist/bench/runtime/measure.js";

test("a flood through a small ring arrives whole and takes time", async () => {
  expect(await timeFlood(20_000, 1 << 12)).toBeGreaterThan(0);
});

test.each([
  ["tells", { count: 50, asks: false, gapMs: 0 }],
  ["asks", { count: 50, asks: true, gapMs: 0 }],
  ["tells to a sleeper", { count: 5, asks: false, gapMs: 1, spinUs: 0 }],
])("every round trip is timed: %s", async (_, trips) => {
  const times = await timeRoundTrips(trips);
  expect(times).toHaveLength(trips.count);
  for (const us of times) expect(us).toBeGreaterThan(0);
});

test("the main thread's round trips are timed, and its threads end", async () => {
  const times = await timeMainRoundTrips(5, 1);
  expect(times).toHaveLength(5);
  for (const us of times) expect(us).toBeGreaterThan(0);
});
