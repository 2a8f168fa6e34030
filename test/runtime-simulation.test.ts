import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type {
  ActorSpec,
  Behaviour,
  BehaviourFactory,
  Deployment,
  RestartPolicy,
} from "../dist/runtime/actor.js";
import type { SimulationOptions } from "../dist/runtime/simulation/options.js";
import { Simulation } from "../dist/runtime/simulation/simulation.js";
import { ActorSystem } from "../dist/runtime/threads/system.js";
import { actor, deploy, edge, fixture, PROBE, Probe, type TestMessage } from "./runtime-threads.js";

type Factory = BehaviourFactory<TestMessage, never, never>;

/** Simulates a deployment of the fixture's actors; "probe" is the given object. */
function simulate(
  deployment: Deployment,
  probe: Behaviour<TestMessage>,
  options: Partial<SimulationOptions<TestMessage>> = {},
): Simulation {
  const behaviourOf = (spec: ActorSpec): Factory =>
    spec.name === "probe" ? () => probe : (fixture[spec.behaviour!.name] as Factory);
  return new Simulation(deployment, {
    seed: 1,
    functions: (spec: ActorSpec) => ({
      behaviour: behaviourOf(spec),
      ...(spec.resources && { resources: (fixture[spec.resources.name] as () => unknown) ?? undefined }),
    }),
    roundTrip: true,
    ...options,
  } as SimulationOptions);
}

const often: RestartPolicy = { most: 10_000, withinMs: 1e9, delayMs: 5, mostDelayMs: 40 };
const items = (probe: Probe) => probe.got.filter(({ type }) => type === "item").map(({ n }) => Number(n));

function pipeline(whenFull: "block" | "refuse" | "drop-oldest", relay: unknown, bytes = 256): Deployment {
  return deploy(
    [
      PROBE,
      actor("flooder", "flooder", { report: "probe" }),
      actor("relay", "relay", relay, { restart: often }),
    ],
    [
      edge("probe", "flooder"),
      edge("flooder", "probe"),
      edge("flooder", "relay", whenFull, bytes),
      edge("relay", "probe", "block", bytes),
    ],
  );
}

/** Lets the actors start, floods, and runs until all is quiet. */
function flood(sim: Simulation, probe: Probe, count: number): void {
  sim.run({ untilMs: sim.now + 1 });
  probe.tell("flooder", { type: "flood", to: "relay", from: 0, count });
}

describe("the virtual clock", () => {
  it("replays a seed exactly, faults included, and no two seeds alike", () => {
    const history = (seed: number) => {
      const probe = new Probe();
      const log: unknown[] = [];
      const sim = simulate(pipeline("block", { to: "probe", crashEvery: 7 }), probe, {
        seed,
        afterEvent: (at) => log.push([at.now, probe.got.length, at.restarts]),
      });
      flood(sim, probe, 40);
      sim.at(3, () => sim.kill("relay"));
      sim.at(9, () => sim.pause("probe", 5));
      sim.run();
      return log;
    };
    expect(history(5)).toEqual(history(5));
    expect(history(5)).not.toEqual(history(6));
  });

  it("delivers everything once and in order over block edges, whatever the seed, the kills and the stalls", () => {
    const faults = fc.array(
      fc.record({
        at: fc.nat(200),
        what: fc.constantFrom("kill", "pause", "slow", "jam"),
        who: fc.constantFrom("flooder", "relay"),
      }),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(fc.nat(), faults, fc.integer({ min: 1, max: 120 }), (seed, planned, count) => {
        const probe = new Probe();
        const sim = simulate(pipeline("block", { to: "probe" }), probe, {
          seed,
          afterEvent: () => {
            const seen = items(probe);
            for (let i = 1; i < seen.length; i++) if (seen[i]! <= seen[i - 1]!) throw new Error("seen twice");
          },
        });
        let kills = 0;
        for (const { at, what, who } of planned) {
          sim.at(at, () => {
            if (what === "kill") {
              kills++;
              sim.kill(who);
            } else if (what === "pause") sim.pause(who, 20);
            else if (what === "slow") sim.slow(who, 10);
            else sim.jam("flooder", "relay", 15);
          });
        }
        flood(sim, probe, count);
        sim.run();
        // A death loses what its actor had in hand; nothing else is lost, and nothing hangs.
        if (kills === 0) expect(items(probe)).toEqual(Array.from({ length: count }, (_, n) => n));
        for (const [from, to] of [
          ["probe", "flooder"],
          ["flooder", "relay"],
          ["relay", "probe"],
        ] as const) {
          expect(sim.mailbox(from, to)).toEqual({ messages: 0, bytes: 0 });
        }
      }),
      { numRuns: 100 },
    );
  });

  it("bounds refusing and dropping mailboxes as rings are", () => {
    const probe = new Probe();
    const refusing = simulate(pipeline("refuse", { to: "probe" }), probe);
    flood(refusing, probe, 100);
    refusing.run();
    // 256 bytes hold ten frames of 16 + 4 bytes, rounded up to 24.
    expect(probe.got.find(({ type }) => type === "flooded")).toMatchObject({ sent: 10, refused: 90 });
    expect(items(probe)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it("stops an actor on a full block edge until its reader has made room", () => {
    const probe = new Probe();
    const sim = simulate(pipeline("block", { to: "probe" }), probe);
    sim.run({ untilMs: 1 });
    sim.pause("relay", 100);
    probe.tell("flooder", { type: "flood", to: "relay", from: 0, count: 100 });
    sim.run({ untilMs: 50 });
    expect(sim.mailbox("flooder", "relay")).toEqual({ messages: 10, bytes: 240 });
    // What it says after the message that waits is said after it.
    expect(probe.got).toEqual([]);
    sim.run();
    expect(items(probe)).toHaveLength(100);
    expect(probe.got.some(({ type }) => type === "flooded")).toBe(true);
  });

  it("lets a job take its virtual time, and messages wait for it once the mailbox has run empty", () => {
    const probe = new Probe();
    const sim = simulate(
      deploy(
        [PROBE, actor("worker", "worker", { report: "probe" }, { restart: often })],
        [edge("probe", "worker"), edge("worker", "probe")],
      ),
      probe,
      // All delays alike, so that the item comes with the job.
      { delayMs: { least: 0.01, most: 0.01 } },
    );
    sim.run({ untilMs: 1 });
    probe.tell("worker", { type: "job", ms: 100, fails: false });
    probe.tell("worker", { type: "item", n: 1 });
    sim.run({ untilMs: 50 });
    expect(sim.isWorking("worker")).toBe(true);
    probe.tell("worker", { type: "item", n: 2 });
    sim.run({ untilMs: 99 });
    expect(sim.mailbox("probe", "worker").messages).toBe(1);
    sim.run();
    // It read one item while it worked, and the other after.
    expect(probe.got).toEqual([{ type: "outcome", what: "done", n: 1 }]);
    expect(sim.now).toBeGreaterThan(101);
    expect(sim.now).toBeLessThan(102);
    // A job dies with its actor.
    probe.tell("worker", { type: "job", ms: 100, fails: false });
    sim.run({ untilMs: sim.now + 50 });
    sim.kill("worker");
    sim.run();
    expect(probe.got).toHaveLength(1);
    expect(sim.incarnation("worker")).toBe(1);
  });

  it("gives up on an actor that dies too often, counts its letters, and tells its watchers", () => {
    const probe = new Probe();
    const failed: string[] = [];
    const policy = { most: 1, withinMs: 1e6, delayMs: 1, mostDelayMs: 1 };
    const sim = simulate(
      deploy(
        [PROBE, actor("server", "server", {}, { restart: policy })],
        [edge("probe", "server"), edge("server", "probe")],
      ),
      probe,
      { failed: (name, { message }) => failed.push(`${name}: ${message}`) },
    );
    sim.run({ untilMs: 1 });
    probe.ctx.watch(probe.ctx.ref("server"));
    for (let i = 0; i < 3; i++) probe.tell("server", { type: "crash", why: "again" });
    let answer: unknown;
    probe.ctx.ask(probe.ctx.ref("server"), { type: "question", n: 1 }, 1e6, (reply) => {
      answer = reply;
    });
    sim.run();
    expect(failed).toEqual([expect.stringContaining('"server" died too often: again')]);
    expect(probe.got.map(({ restarting }) => restarting)).toEqual([true, false]);
    expect(answer).toBe("terminated");
    expect(sim.deadLetters).toBe(2);
  });

  it("ends the run with what an invariant throws", () => {
    const probe = new Probe();
    const sim = simulate(pipeline("block", { to: "probe" }), probe, {
      afterEvent: () => {
        if (items(probe).length > 3) throw new Error("no more than three");
      },
    });
    flood(sim, probe, 10);
    expect(() => sim.run()).toThrow("no more than three");
  });

  it("spawns, fails and stops children as threads do", () => {
    const probe = new Probe();
    const sim = simulate(
      deploy(
        [PROBE, actor("parent", "parent", { report: "probe" }, { restart: often })],
        [edge("probe", "parent"), edge("parent", "probe")],
      ),
      probe,
    );
    const said = () =>
      probe.got.splice(0).map(({ type, what, who, restarting }) => [type, what ?? who, restarting]);
    sim.run({ untilMs: 1 });
    probe.ctx.watch(probe.ctx.ref("parent"));
    probe.tell("parent", { type: "bring", name: "child", role: "child" });
    sim.run();
    expect(said()).toEqual([["outcome", "born", undefined]]);
    probe.tell("parent", { type: "crash", why: "first" });
    sim.run();
    expect(said()).toEqual([["died", "child", true]]);
    probe.tell("parent", { type: "crash", why: "second" });
    sim.run();
    expect(said()).toEqual([["terminated", "parent", true]]);
    probe.tell("parent", { type: "bring", name: "child", role: "child" });
    sim.run();
    probe.tell("parent", { type: "dismiss", name: "child" });
    sim.run();
    expect(said()).toEqual([
      ["outcome", "born", undefined],
      ["died", "child", false],
    ]);
  });
});

describe("threads and the virtual clock", () => {
  const count = 200;
  const crashing = pipeline("block", { to: "probe", crashEvery: 50 });

  it("give the same behaviour: the same items survive the same deaths, with the same restarts", async () => {
    const virtual = new Probe();
    const sim = simulate(crashing, virtual);
    flood(sim, virtual, count);
    sim.run();

    const threaded = new Probe();
    const system = await ActorSystem.start<TestMessage>(crashing, { behaviours: { probe: threaded } });
    try {
      threaded.tell("flooder", { type: "flood", to: "relay", from: 0, count });
      await threaded.when(() => items(threaded).at(-1) === count - 2);
      expect(items(threaded)).toEqual(items(virtual));
      expect(items(virtual)).toHaveLength(count - 4);
    } finally {
      await system.stop({ drainMs: 0 });
    }
    expect(sim.restarts).toBe(4);
  });

  it("answer, refuse and expire asks alike", async () => {
    const asking = deploy(
      [PROBE, actor("server", "server")],
      [edge("probe", "server"), edge("server", "probe")],
    );
    const asks = (probe: Probe) => [
      probe.ask("server", { type: "question", n: 1 }),
      probe.ask("server", { type: "silent", n: 1 }, 30),
    ];
    const virtual = new Probe();
    const sim = simulate(asking, virtual);
    sim.run({ untilMs: 1 });
    const expected = asks(virtual);
    sim.run();
    const threaded = new Probe();
    const system = await ActorSystem.start<TestMessage>(asking, { behaviours: { probe: threaded } });
    try {
      expect(await Promise.all(asks(threaded))).toEqual(await Promise.all(expected));
    } finally {
      await system.stop({ drainMs: 0 });
    }
  });
});
