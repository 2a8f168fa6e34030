import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { afterEach, expect, test } from "vitest";
import { ServedPeer } from "../dist/bench/peer/served-peer.js";

/** Answers as a peer does and names its own process and another that it has started; both spin for good. */
const SPINNING = `
  const { spawn } = require("node:child_process");
  const { Worker } = require("node:worker_threads");
  const spin = "while (true) {}";
  const other = spawn(process.execPath, ["-e", spin], { stdio: "ignore" });
  new Worker(spin, { eval: true });
  const say = (value) => process.stdout.write(JSON.stringify(value) + "\\n");
  say({ description: process.pid + " " + other.pid });
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    if (JSON.parse(line).outputTokens === 13) process.exit(3);
    say({ tokensPerSecond: 7 });
  });
`;
const DECODE = { kind: "decode", sequences: 1, promptTokens: 1, outputTokens: 1 } as const;

/** Of the process as the system has it: T is halted; undefined once it has ended. */
function stateOf(pid: number): string | undefined {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /s, "")[0];
    return state === "Z" || state === "X" ? undefined : state;
  } catch {
    return undefined;
  }
}

const opened: ServedPeer[] = [];

async function openSpinning() {
  const peer = new ServedPeer({ name: "spinner", program: process.execPath, args: ["-e", SPINNING] });
  opened.push(peer);
  const pids = (await peer.ready()).split(" ").map(Number);
  return { peer, states: () => pids.map(stateOf) };
}

afterEach(() => {
  for (const peer of opened.splice(0)) peer.close();
});

const linux = process.platform === "linux";

test.runIf(linux)(
  "a peer that spins while it waits is halted between its runs, with what it has started",
  async () => {
    const { peer, states } = await openSpinning();
    await expect.poll(states).toEqual(["T", "T"]);
    for (let run = 0; run < 3; run++) {
      expect(await peer.run(DECODE)).toBe(7);
      await expect.poll(states).toEqual(["T", "T"]);
    }
  },
);

test.runIf(linux)("closing a halted peer ends all its processes", async () => {
  const { peer, states } = await openSpinning();
  peer.close();
  await expect.poll(states).toEqual([undefined, undefined]);
});

test.runIf(linux)("a peer that ends by itself is an error, and leaves nothing it has started", async () => {
  const { peer, states } = await openSpinning();
  await expect(peer.run({ ...DECODE, outputTokens: 13 })).rejects.toThrow(/spinner ended/);
  await expect.poll(states).toEqual([undefined, undefined]);
});

test.runIf(linux)("nothing is left of a halted peer when the bench is killed", async () => {
  const bench = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `const { ServedPeer } = await import(${JSON.stringify(new URL("../dist/bench/peer/served-peer.js", import.meta.url))});
      const peer = new ServedPeer({ name: "spinner", program: process.execPath, args: ["-e", ${JSON.stringify(SPINNING)}] });
      console.log(await peer.ready());
      setInterval(() => {}, 1000);`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const [line] = (await once(createInterface({ input: bench.stdout }), "line")) as [string];
  const pids = line.split(" ").map(Number);
  await expect.poll(() => pids.map(stateOf)).toEqual(["T", "T"]);
  bench.kill("SIGKILL");
  await expect.poll(() => pids.map(stateOf)).toEqual([undefined, undefined]);
});
