import { StreamServeError } from "../errors.js";
import type {
  Generation,
  GenerationRequest,
  GenerationService,
  GenerationSink,
  ServiceInfo,
  ServiceSnapshot,
} from "./generation.js";

/** A service that can be drained: no new requests, and a promise of the last one's end. */
export class DrainableService implements GenerationService {
  readonly #service: GenerationService;
  readonly #idle: (() => void)[] = [];
  #running = 0;
  #draining = false;

  constructor(service: GenerationService) {
    this.#service = service;
  }

  get info(): ServiceInfo {
    return this.#service.info;
  }

  get draining(): boolean {
    return this.#draining;
  }

  generate(request: GenerationRequest, sink: GenerationSink): Generation {
    if (this.#draining) {
      sink.failed(new StreamServeError("draining", "The server is shutting down: try another or try later."));
      return ENDED;
    }
    this.#running++;
    return this.#service.generate(request, {
      tokens: (delivered) => sink.tokens(delivered),
      done: (summary) => {
        sink.done(summary);
        this.#ended();
      },
      failed: (error) => {
        sink.failed(error);
        this.#ended();
      },
    });
  }

  snapshot(): ServiceSnapshot {
    return this.#service.snapshot();
  }

  /** Takes no new requests; resolves once the running ones have ended, or after `graceMs`. */
  drain(graceMs: number): Promise<void> {
    this.#draining = true;
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, graceMs);
      this.#idle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Ends the waiting of `drain`. */
  hurry(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #ended(): void {
    if (--this.#running === 0) this.hurry();
  }
}

const ENDED: Generation = { cancel() {}, stop() {}, grant() {} };
