import { MessageChannel, type Worker } from "node:worker_threads";
import * as comlink from "comlink";
import { Doorbell } from "../doorbell.js";
import { asError } from "../runtime-error.js";
import { endpointOf } from "./endpoint.js";
import type { Incarnation } from "./incarnation.js";
import type { ActorEvent, ActorSetup, Assignment, Attachment, Control, Notice } from "./setup.js";
import { Status } from "./status.js";
import { takeThread } from "./thread-stock.js";

/** An actor's life on a worker thread, and the main thread's end of its control plane. */
export class WorkerIncarnation implements Incarnation {
  readonly ended: Promise<Error | undefined>;
  private readonly worker: Worker;
  // Held as long as the worker: comlink closes the port of a proxy that was collected.
  private readonly control: comlink.Remote<Control>;
  private readonly bell: Doorbell;
  private readonly status: Status;
  private error: Error | undefined;

  constructor(setup: ActorSetup, emit: (event: ActorEvent) => void) {
    this.bell = new Doorbell(setup.bell);
    this.status = new Status(setup.status);
    const { port1, port2 } = new MessageChannel();
    this.control = comlink.wrap<Control>(endpointOf(port1));
    // The worker keeps the process alive, not its port.
    port1.unref();
    this.worker = takeThread();
    this.worker.postMessage({ setup, control: port2 } satisfies Assignment, [port2]);
    this.worker.on("message", (event: ActorEvent) => {
      if (event.kind === "failed") this.error = event.error;
      emit(event);
    });
    this.worker.on("error", (error: unknown) => {
      this.error ??= asError(error);
    });
    this.ended = new Promise((resolve) => {
      this.worker.once("exit", () => {
        port1.close();
        resolve(this.error);
      });
    });
  }

  inspect(): Promise<Readonly<Record<string, unknown>> | undefined> {
    return Promise.race([this.call(() => this.control.inspect()), this.ended.then(() => undefined)]);
  }

  stop(): void {
    void this.call(() => this.control.stop());
  }

  attach(attachment: Attachment): void {
    void this.call(() => this.control.attach(attachment));
  }

  notice(notice: Notice): void {
    void this.call(() => this.control.notice(notice));
  }

  kill(): void {
    void this.worker.terminate();
  }

  /** The actor's loop blocks its thread: the count brings it back to its event loop, the doorbell wakes it. */
  private call<R>(send: () => Promise<R>): Promise<R> {
    this.status.addControl();
    const answer = send();
    this.bell.force();
    return answer;
  }
}
