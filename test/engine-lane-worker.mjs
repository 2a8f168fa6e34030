/** A lane on a thread of its own that is ended in the middle of a step. */
import { parentPort, workerData } from "node:worker_threads";
import { GREEDY } from "../dist/engine/engine.js";
import { NativeLane } from "../dist/engine/native-engine.js";

const { engine, lane: index, collects } = workerData;
const lane = new NativeLane({ engine, lane: index, role: index % 2 ? "decode" : "prefill", maxRows: 4, maxBatchTokens: 256 });
const prompt = Uint32Array.from({ length: 100 }, (_, i) => (i * 7 + index) % engine.vocabulary);
const rows = [0, 1].map(() => ({
  sequence: lane.createSequence(prompt, prompt.length, GREEDY).handle,
  tokens: prompt,
  drafts: 0,
  sample: true,
}));
lane.handOver(lane.createSequence(prompt, prompt.length, GREEDY).handle, index);
const job = lane.submit(rows);
parentPort.postMessage("stepping");
if (collects > 0) job.collect();
// Steps without end: the thread is inside one of them, or between two, when it is terminated.
const next = rows.map((row) => ({ ...row, tokens: [1] }));
for (let left = collects > 1 ? 300 : 0; left > 0; left--) lane.submit(next).collect();
parentPort.on("message", () => {});
