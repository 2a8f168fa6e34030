import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseVictim, chooseYielding } from "../dist/policy/preemption.js";

describe("offline work gives way", () => {
  const one = fc.record({ blocks: fc.integer({ min: 1, max: 20 }), since: fc.integer({ min: 0, max: 99 }) });

  test("with enough blocks and places or not at all, and with nobody more than that takes", () => {
    fc.assert(
      fc.property(fc.array(one, { maxLength: 12 }), fc.nat(60), fc.nat(6), (all, blocks, places) => {
        const chosen = chooseYielding(all, blocks, places);
        const sum = (list: typeof all) => list.reduce((total, { blocks }) => total + blocks, 0);
        if (sum(all) < blocks || all.length < places) {
          expect(chosen).toEqual([]);
          return;
        }
        expect(sum(chosen)).toBeGreaterThanOrEqual(blocks);
        expect(chosen.length).toBeGreaterThanOrEqual(places);
        const fewer = chosen.slice(0, -1);
        expect(chosen.length === 0 || sum(fewer) < blocks || fewer.length < places).toBe(true);
        const stays = all.filter((other) => !chosen.includes(other));
        for (const { since } of chosen)
          for (const other of stays) expect(other.since).toBeLessThanOrEqual(since);
      }),
    );
  });
});

describe("an empty pool", () => {
  const row = (name: string, more: object = {}) => ({
    name,
    offline: false,
    parked: false,
    overdrawn: false,
    ...more,
  });

  test("takes from offline rows, then parked ones, then overdrawn ones, then the youngest", () => {
    const rows = [
      row("oldest", { overdrawn: true }),
      row("offline", { offline: true }),
      row("parked", { parked: true }),
      row("plain"),
    ];
    const order: string[] = [];
    for (let victim = chooseVictim(rows); victim; victim = chooseVictim(rows)) {
      order.push(victim.name);
      rows.splice(rows.indexOf(victim), 1);
    }
    expect(order).toEqual(["offline", "parked", "oldest", "plain"]);
  });

  test("never takes from the oldest of equals", () => {
    expect(chooseVictim([row("old"), row("young")])?.name).toBe("young");
  });
});
