import { spawnSync } from "node:child_process";
import { afterEach, expect, it } from "vitest";
import type { Deployment, RestartPolicy } from "../dist/runtime/actor.js";
import { Restarts } from "../dist/runtime/restarts.js";
import { ActorSystem } from "../dist/runtime/threads/system.js";
import { actor, deploy, edge, PROBE, Probe, type TestMessage } from "./runtime-threads.js";

let system: ActorSystem | undefined;
let probe: Probe;

async function start(deployment: Deployment): Promise<ActorSystem> {
  probe = new Probe();
  system = await ActorSystem.start<TestMessage>(deployment, { behaviours: { probe } });
  return system;
}

afterEach(async () => {
  await system?.stop({ drainMs: 0 });
  system = undefined;
});

const often: RestartPolicy = { most: 10_000, withinMs: 60_000, delayMs: 0, mostDelayMs: 0 };
const once = (running: ActorSystem, event: "failed" | "restarted") =>
  new Promise<unknown>((resolve) => running.once(event, (value: unknown) => resolve(value)));

it("restarts are granted within an intensity, with doubling delays", () => {
  const restarts = new Restarts({ most: 3, withinMs: 1000, delayMs: 10, mostDelayMs: 25 });
  expect([0, 1, 2, 3].map((now) => restarts.died(now))).toEqual([10, 20, 25, undefined]);
  expect(restarts.died(1003)).toBe(10);
});

it("an actor that throws is started again on its rings, and its watchers are told in order", async () => {
  const running = await start(
    deploy([PROBE, actor("server", "server")], [edge("probe", "server"), edge("server", "probe")]),
  );
  probe.ctx.watch(probe.ctx.ref("server"));
  probe.tell("server", { type: "probe", n: 0 });
  probe.tell("server", { type: "crash", why: "on purpose" });
  probe.tell("server", { type: "probe", n: 0 });
  await probe.next("terminated");
  // What it sent before its death was heard before the news of it.
  expect(probe.got.map(({ what }) => what)).toEqual(["probed"]);
  await probe.when(() => probe.got.length === 2);
  expect(await probe.ask("server", { type: "question", n: 1 })).toMatchObject({ n: 2, incarnation: 1 });
  expect(running.restarts).toBe(1);
});

it("an actor that dies too often fails its system, and messages to it are dead letters", async () => {
  const policy: RestartPolicy = { most: 2, withinMs: 60_000, delayMs: 1, mostDelayMs: 1 };
  const running = await start(
    deploy(
      [PROBE, actor("server", "server", {}, { restart: policy })],
      [edge("probe", "server"), edge("server", "probe")],
    ),
  );
  probe.ctx.watch(probe.ctx.ref("server"));
  const failed = once(running, "failed");
  for (let i = 0; i < 4; i++) probe.tell("server", { type: "crash", why: "again" });
  expect(await failed).toMatchObject({ name: "server", error: { code: "actor_failed" } });
  await probe.when(() => probe.got.length === 3);
  expect(probe.got.map(({ restarting }) => restarting)).toEqual([true, true, false]);
  // The fourth message was left in the mailbox; the fifth goes nowhere.
  expect(running.deadLetters).toBe(1);
  expect(probe.tell("server", { type: "item", n: 0 })).toBe(false);
  expect(running.deadLetters).toBe(2);
  expect(await probe.ask("server", { type: "question", n: 0 })).toBe("terminated");
});

it("no message is seen twice, and none out of order, when actors are killed while messages flow", async () => {
  const running = await start(
    deploy(
      [
        PROBE,
        actor("flooder", "flooder", { report: "probe" }),
        actor("relay", "relay", { to: "probe" }, { restart: often }),
      ],
      [
        edge("probe", "flooder"),
        edge("flooder", "probe"),
        edge("flooder", "relay", "block", 512),
        edge("relay", "probe", "block", 512),
      ],
    ),
  );
  const count = 30_000;
  probe.tell("flooder", { type: "flood", to: "relay", from: 0, count });
  for (let kills = 0; kills < 5; kills++) {
    const before = probe.got.length;
    await probe.when(() => probe.got.length > before + 500);
    const restarted = once(running, "restarted");
    await running.kill("relay");
    await restarted;
  }
  expect(await probe.next("flooded")).toMatchObject({ sent: count });
  const last = () => probe.got.at(-1)?.n === count - 1;
  await probe.when(last);
  const numbers = probe.got.map(({ n }) => Number(n));
  for (let i = 1; i < numbers.length; i++) expect(numbers[i]).toBeGreaterThan(numbers[i - 1]!);
  // Lost are at most the message in hand and a ring's worth sent but not published, at each death.
  expect(count - numbers.length).toBeLessThan(5 * 64);
  expect(running.restarts).toBe(5);
});

it("the process lives through a hundred workers terminated at work", { timeout: 120_000 }, async () => {
  const running = await start(
    deploy(
      [PROBE, actor("ticker", "ticker", { to: "probe", everyMs: 0 }, { restart: often })],
      [edge("ticker", "probe", "drop-oldest", 1024)],
    ),
  );
  for (let kills = 0; kills < 100; kills++) {
    const restarted = once(running, "restarted");
    await running.kill("ticker");
    await restarted;
  }
  expect(running.restarts).toBe(100);
  probe.got.length = 0;
  await probe.when(() => probe.got.length > 0);
});

it("a spawned child is supervised by its parent, fails it, and can be brought again", async () => {
  const running = await start(
    deploy(
      [PROBE, actor("parent", "parent", { report: "probe" }, { restart: often })],
      [edge("probe", "parent"), edge("parent", "probe")],
    ),
  );
  probe.ctx.watch(probe.ctx.ref("parent"));
  probe.tell("parent", { type: "bring", name: "child", role: "child" });
  expect(await probe.next("outcome")).toMatchObject({ what: "born", n: 7 });
  probe.tell("parent", { type: "crash", why: "first" });
  expect(await probe.next("died")).toMatchObject({ who: "child", restarting: true });
  // The child's second death is one too many: its parent dies of it, and is started again without it.
  probe.tell("parent", { type: "crash", why: "second" });
  expect(await probe.next("terminated")).toMatchObject({ who: "parent", restarting: true });
  probe.tell("parent", { type: "bring", name: "child", role: "child" });
  expect(await probe.next("outcome")).toMatchObject({ what: "born" });
  probe.tell("parent", { type: "dismiss", name: "child" });
  await probe.when(() => probe.got.some(({ type, restarting }) => type === "died" && restarting === false));
  expect((await running.inspect()).find(({ name }) => name === "parent")?.incarnation).toBe(1);
});

it("a spawn that makes a circle of block edges, or takes a name, is refused", async () => {
  const running = await start(
    deploy(
      [PROBE, actor("parent", "parent", { report: "probe" }, { restart: often })],
      [edge("probe", "parent"), edge("parent", "probe")],
    ),
  );
  const restarted = once(running, "restarted");
  probe.tell("parent", { type: "bring", name: "parent", role: "child" });
  await restarted;
  expect(probe.got).toEqual([]);
});

it("a reload drains the mailbox, ends the behaviour and starts it with new options", async () => {
  const running = await start(
    deploy(
      [
        PROBE,
        actor(
          "server",
          "resourceful",
          { base: 100 },
          { resources: { ...actor("", "resources").behaviour! } },
        ),
      ],
      [edge("probe", "server"), edge("server", "probe")],
    ),
  );
  expect(await probe.ask("server", { type: "question", n: 1 })).toMatchObject({ n: 101 });
  await running.reload("server", { base: 200 });
  expect(await probe.next("outcome")).toMatchObject({ what: "stopped", n: 100 });
  expect(await probe.ask("server", { type: "question", n: 1 })).toMatchObject({ n: 202, incarnation: 1 });
  await running.stop();
  expect(running.deadLetters).toBe(0);
});

it("a main-thread actor that throws keeps its object, and gets a new context", async () => {
  const contexts: number[] = [];
  const behaviour = {
    started: (ctx: { readonly incarnation: number }) => contexts.push(ctx.incarnation),
    receive: () => {
      throw new Error("no");
    },
  };
  probe = new Probe();
  system = await ActorSystem.start<TestMessage>(
    deploy(
      [PROBE, { name: "fragile", options: {}, thread: "main", restart: often }],
      [edge("probe", "fragile")],
    ),
    { behaviours: { probe, fragile: behaviour } },
  );
  const restarted = once(system, "restarted");
  probe.tell("fragile", { type: "item", n: 1 });
  await restarted;
  expect(contexts).toEqual([0, 1]);
});

it("a killed main-thread actor's old context sends nothing", async () => {
  const running = await start(
    deploy(
      [{ ...PROBE, restart: often }, actor("server", "server")],
      [edge("probe", "server"), edge("server", "probe")],
    ),
  );
  const old = probe.ctx;
  const restarted = once(running, "restarted");
  await running.kill("probe");
  await restarted;
  expect(old.tell(old.ref("server"), { type: "item", n: 1 })).toBe(false);
  expect(await probe.ask("server", { type: "question", n: 1 })).toMatchObject({ n: 2 });
});

it("an actor that never returns is inspected without details, and ended by force", async () => {
  const running = await start(deploy([PROBE, actor("stuck", "stuck")], [edge("probe", "stuck")]));
  probe.tell("stuck", { type: "item", n: 0 });
  const isStuck = async () =>
    (await running.inspect()).some(({ name, details }) => name === "stuck" && !details);
  while (!(await isStuck()));
  await running.stop({ drainMs: 1 });
});

it("the example of the package runs as it stands, and its process ends by itself", () => {
  const example = new URL("../examples/actors.mjs", import.meta.url).pathname;
  const { stdout, stderr, status } = spawnSync(process.execPath, [example], {
    encoding: "utf8",
    timeout: 30_000,
  });
  expect({ stdout, stderr, status }).toEqual({
    stdout: "pong has the ball at the end\n",
    stderr: "",
    status: 0,
  });
});
