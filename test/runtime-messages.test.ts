import { afterEach, describe, expect, it } from "vitest";
import type { Deployment } from "../dist/runtime/actor.js";
import { ActorSystem, type StartOptions } from "../dist/runtime/threads/system.js";
import { actor, deploy, edge, PROBE, Probe, type TestMessage } from "./runtime-threads.js";

let system: ActorSystem | undefined;
let probe: Probe;

async function start(deployment: Deployment, options: StartOptions<TestMessage> = {}): Promise<ActorSystem> {
  probe = new Probe();
  system = await ActorSystem.start(deployment, { behaviours: { probe }, ...options });
  return system;
}

afterEach(async () => {
  await system?.stop({ drainMs: 0 });
  system = undefined;
});

const withServer = deploy(
  [PROBE, actor("server", "server")],
  [edge("probe", "server"), edge("server", "probe")],
);

describe("asking", () => {
  it("gets the reply of another thread, again and again", async () => {
    await start(withServer);
    for (let n = 0; n < 100; n++) {
      expect(await probe.ask("server", { type: "question", n })).toEqual({
        type: "answer",
        n: n + 1,
        incarnation: 0,
      });
    }
  });

  it("ends at its deadline, and the late reply is a dead letter", async () => {
    const running = await start(
      deploy(
        [PROBE, actor("server", "server"), actor("worker", "worker", { report: "probe" })],
        [edge("probe", "worker"), edge("worker", "probe"), edge("probe", "server"), edge("server", "probe")],
      ),
    );
    expect(await probe.ask("server", { type: "silent", n: 0 }, 20)).toBe("timeout");
    // This one is answered after its deadline: the reply is under way when the deadline ends.
    expect(await probe.ask("server", { type: "question", n: 1 }, 0)).toBe("timeout");
    await probe.ask("server", { type: "question", n: 2 });
    expect(running.deadLetters).toBe(1);
  });

  it("fails as terminated when the actor asked is killed", async () => {
    const running = await start(withServer);
    const answer = probe.ask("server", { type: "silent", n: 0 });
    await running.kill("server");
    expect(await answer).toBe("terminated");
  });

  it("fails as refused when the mailbox is full", async () => {
    await start(deploy([PROBE, actor("server", "stuck")], [edge("probe", "server", "refuse", 128)]));
    while (probe.tell("server", { type: "item", n: 0 }));
    expect(await probe.ask("server", { type: "question", n: 0 })).toBe("refused");
  });
});

describe("a full mailbox", () => {
  const flood = (whenFull: "block" | "refuse" | "drop-oldest", count: number) =>
    start(
      deploy(
        [PROBE, actor("flooder", "flooder", { report: "probe" }), actor("server", "server")],
        [
          edge("probe", "flooder"),
          edge("flooder", "server", whenFull, 256),
          edge("flooder", "probe"),
          edge("probe", "server"),
          edge("server", "probe"),
        ],
      ),
    ).then((running) => {
      probe.tell("flooder", { type: "flood", to: "server", from: 0, count });
      return running;
    });

  it("makes a sender on a block edge wait, and nothing is lost", async () => {
    const running = await flood("block", 20_000);
    expect(await probe.next("flooded")).toMatchObject({ sent: 20_000, refused: 0 });
    await running.stop();
    expect(running.deadLetters).toBe(0);
  });

  it("refuses on a refuse edge, and all that was taken arrives", async () => {
    const running = await flood("refuse", 20_000);
    const { sent, refused } = (await probe.next("flooded")) as TestMessage & {
      sent: number;
      refused: number;
    };
    expect(sent + refused).toBe(20_000);
    expect(refused).toBeGreaterThan(0);
    await waitUntilRead(running, "server", "flooder");
    expect((await running.inspect()).find(({ name }) => name === "server")?.details).toEqual({ got: sent });
  });

  it("drops the oldest on a drop-oldest edge, and counts them", async () => {
    const running = await flood("drop-oldest", 20_000);
    expect(await probe.next("flooded")).toMatchObject({ sent: 20_000, refused: 0 });
    await waitUntilRead(running, "server", "flooder");
    const report = (await running.inspect()).find(({ name }) => name === "server");
    expect(Number(report?.details?.got) + Number(report?.dropped)).toBe(20_000);
  });

  it("lets a blocked sender go when its receiver ends for good", async () => {
    const running = await start(
      deploy(
        [
          PROBE,
          actor("flooder", "flooder", { report: "probe" }),
          actor("stuck", "stuck", {}, { restart: { most: 0, withinMs: 1, delayMs: 1, mostDelayMs: 1 } }),
        ],
        [edge("probe", "flooder"), edge("flooder", "stuck", "block", 256), edge("flooder", "probe")],
      ),
    );
    probe.tell("flooder", { type: "flood", to: "stuck", from: 0, count: 100 });
    // Ten frames of 24 bytes fit. Once the first has been read there are nine, or ten and a pad of 16 bytes, which
    // is too little to let a sender go on that has begun to wait.
    await untilReport(
      running,
      ({ name, mailbox }) => name === "stuck" && [216, 256].includes(mailbox.flooder ?? 0),
    );
    const failed = new Promise((resolve) => running.once("failed", resolve));
    await running.kill("stuck");
    expect(await failed).toMatchObject({ name: "stuck" });
    const { sent, refused } = (await probe.next("flooded")) as TestMessage & {
      sent: number;
      refused: number;
    };
    expect(sent + refused).toBe(100);
    expect(refused).toBeGreaterThan(0);
    // Every item that was not read is accounted for: sent to nobody, or left in the mailbox.
    expect(running.deadLetters).toBe(99);
  });

  it("ends a wait when the system stops", async () => {
    const running = await start(
      deploy(
        [PROBE, actor("flooder", "flooder", { report: "probe" }), actor("stuck", "stuck")],
        [edge("probe", "flooder"), edge("flooder", "stuck", "block", 256), edge("flooder", "probe")],
      ),
    );
    probe.tell("flooder", { type: "flood", to: "stuck", from: 0, count: 100 });
    await untilReport(running, ({ name, mailbox }) => name === "stuck" && Number(mailbox.flooder) > 200);
    await running.stop({ drainMs: 10 });
  });
});

describe("a deployment is refused at start", () => {
  const refuse = (deployment: Deployment, code: string, text: string) =>
    expect(ActorSystem.start(deployment)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(text),
    });
  const three = ["a", "b", "c"].map((name) => actor(name, "server"));

  it("when block edges form a cycle, which it names", async () => {
    await refuse(
      deploy(three, [edge("a", "b", "block"), edge("b", "c", "block"), edge("c", "a", "block")]),
      "edge_cycle",
      "a -> b -> c -> a",
    );
    await refuse(deploy(three, [edge("a", "a", "block")]), "edge_cycle", "a -> a");
  });

  it("when names, edges or slabs make no sense", async () => {
    await refuse(deploy([], []), "deployment_invalid", "no actors");
    await refuse(deploy([...three, actor("a", "server")], []), "deployment_invalid", '"a"');
    await refuse(deploy(three, [edge("a", "x")]), "deployment_invalid", '"x"');
    await refuse(deploy(three, [edge("a", "b"), edge("a", "b")]), "deployment_invalid", "two edges");
    await refuse(deploy(three, [edge("a", "b", "refuse", 100)]), "deployment_invalid", "power of two");
    await refuse(deploy(three, [], [{ owner: "x", bytes: 4096 }]), "deployment_invalid", '"x"');
    const main = actor("m", "server", {}, { thread: "main" });
    await refuse(deploy([main, ...three], [edge("m", "a", "block")]), "deployment_invalid", "main thread");
  });

  it("when an actor can't be built, and nothing is left running", async () => {
    await expect(ActorSystem.start(deploy([actor("a", "broken"), ...three.slice(1)], []))).rejects.toThrow(
      "no such engine",
    );
    await expect(ActorSystem.start(deploy([actor("a", "nothing")], []))).rejects.toThrow(
      'exports no "nothing"',
    );
  });
});

it("a message with no edge, of no known type or too large is the sender's error and sends nothing", async () => {
  await start(
    deploy(
      [PROBE, actor("server", "server"), actor("other", "server")],
      [edge("probe", "server", "refuse", 64)],
    ),
  );
  expect(() => probe.tell("other", { type: "item", n: 1 })).toThrow(
    expect.objectContaining({ code: "unknown_edge" }),
  );
  expect(() => probe.tell("nobody", { type: "item", n: 1 })).toThrow(
    expect.objectContaining({ code: "unknown_actor" }),
  );
  expect(() => probe.tell("server", { type: "nonsense" })).toThrow(
    expect.objectContaining({ code: "message_invalid" }),
  );
  expect(() => probe.tell("server", { type: "item", n: -1 })).toThrow(
    expect.objectContaining({ code: "message_invalid" }),
  );
  const why = "x".repeat(64);
  expect(() => probe.tell("server", { type: "crash", why })).toThrow(
    expect.objectContaining({ code: "message_too_large" }),
  );
});

it("a slab region travels by reference, and its owner alone allocates", async () => {
  await start(
    deploy(
      [PROBE, actor("server", "server")],
      [edge("probe", "server"), edge("server", "probe")],
      [{ owner: "probe", bytes: 4096 }],
    ),
  );
  const ref = probe.ctx.slab().allocate(100)!;
  probe.ctx.bytes(ref).fill(3);
  probe.tell("server", { type: "region", ref });
  expect(await probe.next("outcome")).toMatchObject({ what: "sum", n: 300 });
  expect(probe.ctx.slab().free(ref)).toBe(true);
});

it("a job's result, or what it failed with, comes back as a turn of its actor", async () => {
  await start(
    deploy(
      [PROBE, actor("worker", "worker", { report: "probe" })],
      [edge("probe", "worker"), edge("worker", "probe")],
    ),
  );
  probe.tell("worker", { type: "job", ms: 30, fails: false });
  expect(await probe.next("outcome")).toMatchObject({ what: "done" });
  probe.tell("worker", { type: "job", ms: 1, fails: true });
  expect(await probe.next("outcome")).toMatchObject({ what: "job failed" });
});

it("traces are off at first, and give spans and mailbox depths when on", async () => {
  const running = await start(withServer);
  await probe.ask("server", { type: "question", n: 1 });
  expect(running.traces()).toEqual([]);
  running.setTracing(true);
  // A batch that was begun before is not traced; control calls are taken between batches.
  await running.inspect();
  const began = probe.ctx.now();
  await probe.ask("server", { type: "question", n: 2 });
  await running.inspect();
  probe.ctx.trace("asked", began, 7, 1.5);
  const spans = running.traces();
  expect(spans).toContainEqual(expect.objectContaining({ actor: "server", name: "mailbox", value: 1 }));
  const asked = spans.find(({ name }) => name === "asked")!;
  expect(asked).toMatchObject({ actor: "probe", request: 7, value: 1.5, start: began });
  const served = spans.find(({ actor }) => actor === "server")!;
  // One clock for all threads: the answer lies within the question.
  expect(served.start).toBeGreaterThanOrEqual(began - 0.1);
  expect(served.end).toBeLessThanOrEqual(asked.end + 0.1);
});

type Report = Awaited<ReturnType<ActorSystem["inspect"]>>[number];

async function untilReport(running: ActorSystem, holds: (report: Report) => boolean): Promise<void> {
  while (!(await running.inspect()).some(holds));
}

function waitUntilRead(running: ActorSystem, to: string, from: string): Promise<void> {
  return untilReport(
    running,
    ({ name, mailbox, state }) => name === to && mailbox[from] === 0 && state === "parked",
  );
}
