import { basename } from "node:path";
import { startRuntime } from "../actors/start.js";
import { startThreadsAhead } from "../actors/threads-ahead.js";
import type { Config } from "../config/schema.js";
import { answersOf, resolveModel } from "../model/resolve.js";
import { openTextCodec } from "../model/text-codec.js";
import { partDone } from "../runtime/start-times.js";
import type { ActorSystem, LogEntry } from "../runtime/threads/system.js";
import { endSpareThreads } from "../runtime/threads/thread-stock.js";
import type { ServingCore } from "./core.js";

/** Told what actors log, and of actors that died. */
export type CoreLog = (entry: LogEntry) => void;

/**
 * Finds (or fetches) the configured model, opens its tokenizer and starts the actors over its engine. Throws what
 * these throw; nothing is left running then.
 */
export async function openCore(config: Config, log: CoreLog = () => {}): Promise<ServingCore> {
  partDone("modules");
  startThreadsAhead();
  const path = await resolveModel(config.model);
  const { draftModel, knownAnswers = answersOf(config.model) } = config.speculation;
  const draftPath = draftModel === undefined ? undefined : await resolveModel(draftModel);
  partDone("model found");
  // Its thread reads the vocabulary while this one reads the weights.
  const [codec, runtime] = await both(
    openTextCodec(path),
    startRuntime(
      { ...config, model: modelName(config.model), speculation: { ...config.speculation, knownAnswers } },
      path,
      (text) => log({ actor: "engine", level: "warn", text, fields: {} }),
      draftPath,
    ),
    (codec) => codec.close(),
    (runtime) => runtime.stop(),
  ).finally(endSpareThreads);
  report(runtime.system, log);
  let alive = true;
  runtime.system.on("failed", () => {
    alive = false;
  });
  return {
    service: runtime.service,
    codec,
    actors: runtime.system,
    alive: () => alive,
    async close() {
      await runtime.stop();
      await codec.close();
    },
  };
}

/** Both results; if one fails the other is closed again before its error is thrown. */
async function both<A, B>(
  first: Promise<A>,
  second: Promise<B>,
  closeFirst: (value: A) => Promise<void>,
  closeSecond: (value: B) => Promise<void>,
): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === "fulfilled" && b.status === "fulfilled") return [a.value, b.value];
  if (a.status === "fulfilled") await closeFirst(a.value);
  if (b.status === "fulfilled") await closeSecond(b.value);
  throw a.status === "rejected" ? a.reason : b.status === "rejected" ? b.reason : undefined;
}

/** What clients call the model: a file's path is nobody's business. */
function modelName(model: string): string {
  return basename(model.replace(/\/model\.safetensors$/, "")).replace(/\.(gguf|safetensors)$/, "");
}

function report(system: ActorSystem, log: CoreLog): void {
  const tell = (actor: string, level: LogEntry["level"], text: string, fields: LogEntry["fields"]): void =>
    log({ actor, level, text, fields });
  system.on("log", log);
  system.on("failed", ({ name, error }) => tell(name, "error", `given up: ${error.message}`, {}));
  system.on("restarted", ({ name, incarnation }) => tell(name, "warn", "restarted", { incarnation }));
}
