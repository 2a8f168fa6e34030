import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ModelDirectory, tinyModel } from "./tiny-model.js";

/**
 * Compute threads keep to the processors that the process may use. Each engine is opened in a process of its own, since
 * the pool of threads is the process's.
 */

const ENGINE = fileURLToPath(new URL("../dist/engine/native-engine.js", import.meta.url));
const onLinux = test.runIf(process.platform === "linux");
const directory = new ModelDirectory();
let model: string;

beforeAll(() => {
  model = directory.write(tinyModel());
});
afterAll(() => directory.dispose());

/** Opens engines one after another; of each the threads, the description and every thread's processors. */
const PROGRAM = `
  import { readdirSync, readFileSync } from "node:fs";
  const { openEngine } = await import(process.argv[1]);
  const found = JSON.parse(process.argv[3]).map((options) => {
    const { threads, placement } = openEngine({ path: process.argv[2], kvTokens: 64, ...options });
    const lists = readdirSync("/proc/self/task").map(
      (task) => /Cpus_allowed_list:\\s*(\\S+)/.exec(readFileSync("/proc/self/task/" + task + "/status", "utf8"))[1],
    );
    return { threads, placement, lists };
  });
  process.stdout.write(JSON.stringify(found));
`;

interface Opened {
  readonly threads: number;
  readonly placement: string;
  readonly lists: readonly string[];
}

function open(mask: string, ...options: object[]): Opened[] {
  const node = [process.execPath, "--input-type=module", "-e", PROGRAM, ENGINE, model];
  return JSON.parse(
    execFileSync("taskset", ["-c", mask, ...node, JSON.stringify(options)], { encoding: "utf8" }),
  );
}

/** The processors of this process, as the kernel lists them. */
function ownMask(): { readonly list: string; readonly cpus: readonly number[] } {
  const list = /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync("/proc/self/status", "utf8"))![1]!;
  const cpus = list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
  return { list, cpus };
}

onLinux("no more threads than processors that the mask leaves", () => {
  const last = String(ownMask().cpus.at(-1));
  const [opened] = open(last, {});
  expect(opened!.threads).toBe(1);
  expect(new Set(opened!.lists)).toEqual(new Set([last]));
});

onLinux(
  "pinned threads have a processor each, and run anywhere again when the next engine asks for it",
  () => {
    const { list, cpus } = ownMask();
    const threads = Math.min(2, cpus.length);
    const [pinned, free] = open(list, { threads, affinity: "pin" }, { threads, affinity: "none" });
    const single = (lists: readonly string[]) => lists.filter((one) => /^\d+$/.test(one));
    expect(pinned!.placement).toContain("pinned to ");
    // With one processor every thread of the process has just that one.
    if (cpus.length > 1) expect(new Set(single(pinned!.lists)).size).toBe(threads);
    if (cpus.length > 1) expect(single(free!.lists)).toEqual([]);
    expect(free!.placement).toContain("not pinned");
  },
);

onLinux("more threads than processors are not pinned, and it is said", () => {
  const one = String(ownMask().cpus[0]);
  const [opened] = open(one, { threads: 2, affinity: "pin" });
  expect(opened).toMatchObject({
    threads: 2,
    placement: expect.stringContaining("more threads than processors"),
  });
});
