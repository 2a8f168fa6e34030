import { StreamServe } from "streamserve";
import { startTimes } from "#streamserve/runtime/start-times.js";

/** One start inside a process of its own, and the first token of a short prompt: printed as JSON. */

const [model = "", tokens = "32"] = process.argv.slice(2);
const serve = await StreamServe.start({ model });
const readyMs = performance.now();
const { user, system } = process.cpuUsage();
const parts = startTimes();
const prompt = Array.from({ length: Number(tokens) }, (_, i) => 1000 + 37 * i);
let firstTokenMs = Number.NaN;
for await (const _ of serve.complete({ prompt, maxTokens: 1, temperature: 0 })) {
  if (Number.isNaN(firstTokenMs)) firstTokenMs = performance.now() - readyMs;
}
process.stdout.write(JSON.stringify({ readyMs, firstTokenMs, processorMs: (user + system) / 1000, parts }));
await serve.close();
