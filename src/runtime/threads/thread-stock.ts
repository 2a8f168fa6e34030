import { Worker } from "node:worker_threads";

/**
 * Threads for actors to come. Node takes some 25 ms of a core to start a thread, whatever it will run: who knows that
 * there will be actors starts their threads first, and reads files and loads modules beside.
 */
const stock = new Set<Worker>();

/**
 * Of each actor's heap. An actor makes few objects and lets go of them within a turn; with V8's default, for whole
 * programs, every thread would come to hold tens of megabytes of garbage before it is looked at.
 */
const YOUNG_GENERATION_MB = 3;

/** Sees to it that `count` threads wait for actors. They keep no process alive. */
export function stockThreads(count: number): void {
  while (stock.size < count) {
    const worker = newThread();
    worker.unref();
    // What breaks it breaks the next one too, and is told to whoever needs that one.
    worker.on("error", ignore);
    worker.once("exit", () => stock.delete(worker));
    stock.add(worker);
  }
}

/** A thread that waits for its actor, and keeps the process alive; who takes it hears its errors. */
export function takeThread(): Worker {
  const [worker] = stock;
  if (worker === undefined) return newThread();
  stock.delete(worker);
  worker.off("error", ignore);
  worker.ref();
  return worker;
}

/** Ends the threads that nobody has taken. */
export function endSpareThreads(): void {
  for (const worker of stock) void worker.terminate();
  stock.clear();
}

function newThread(): Worker {
  return new Worker(new URL("./worker-main.js", import.meta.url), {
    name: "actor",
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB },
    // Inherited, --input-type of `node -e` would refuse a worker that is a file.
    ...(process.execArgv.some((argument) => argument.startsWith("--input-type")) ? { execArgv: [] } : {}),
  });
}

function ignore(): void {}
