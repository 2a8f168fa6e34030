import { once } from "node:events";
import { setImmediate as nextTurn } from "node:timers/promises";
import { inspect } from "node:util";
import { parentPort } from "node:worker_threads";
import * as comlink from "comlink";
import { Codec } from "../codec.js";
import { asError } from "../runtime-error.js";
import { endpointOf } from "./endpoint.js";
import { loadBehaviour, loadProtocol } from "./loading.js";
import type { ActorEvent, Assignment, Control } from "./setup.js";
import { ThreadedActor } from "./threaded-actor.js";
import { WorkerLoop } from "./worker-loop.js";

/** The entry of an actor's worker thread. It may wait for its actor. */

function emit(event: ActorEvent): void {
  if (event.kind !== "log") {
    parentPort!.postMessage(event);
    return;
  }
  try {
    parentPort!.postMessage(event);
  } catch {
    // A log line is no reason to die: what can't be cloned is written out.
    parentPort!.postMessage({ ...event, fields: { fields: inspect(event.fields) } });
  }
}

async function run(): Promise<void> {
  const [assignment] = await once(parentPort!, "message");
  const { setup, control }: Assignment = assignment;
  const codec = new Codec(await loadProtocol(setup.protocolRef));
  const behaviour = await loadBehaviour(setup.spec, setup.incarnation);
  const actor = new ThreadedActor(setup, behaviour, codec, emit, () => {});
  const loop = new WorkerLoop(actor);
  const calls: Control = {
    inspect: () => loop.control(() => actor.inspect()),
    stop: () => loop.control(() => loop.stop()),
    attach: (attachment) => loop.control(() => actor.attach(attachment)),
    notice: (notice) => loop.control(() => actor.addNotice(notice)),
  };
  comlink.expose(calls, endpointOf(control));
  actor.start();
  emit({ kind: "ready" });
  // The loop blocks this thread; for a control call it comes back, so that the event loop can take the call.
  while (loop.run() === "control") await nextTurn();
  emit({ kind: "stopped" });
}

run().then(
  () => process.exit(0),
  (error: unknown) => {
    emit({ kind: "failed", error: asError(error) });
    process.exit(1);
  },
);
