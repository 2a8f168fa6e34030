import type { StreamServeError } from "../errors.js";
import type {
  Generation,
  GenerationRequest,
  GenerationService,
  GenerationSink,
  GenerationSummary,
  ServiceInfo,
  ServiceSnapshot,
} from "./generation.js";

/** Told of every generation's end. */
export interface GenerationObserver {
  ended(summary: GenerationSummary): void;
  failed(error: StreamServeError): void;
}

/** A service whose generations are observed, whatever door they come through. */
export class MeteredService implements GenerationService {
  readonly #service: GenerationService;
  readonly #observer: GenerationObserver;

  constructor(service: GenerationService, observer: GenerationObserver) {
    this.#service = service;
    this.#observer = observer;
  }

  get info(): ServiceInfo {
    return this.#service.info;
  }

  generate(request: GenerationRequest, sink: GenerationSink): Generation {
    return this.#service.generate(request, {
      tokens: (delivered) => sink.tokens(delivered),
      done: (summary) => {
        this.#observer.ended(summary);
        sink.done(summary);
      },
      failed: (error) => {
        this.#observer.failed(error);
        sink.failed(error);
      },
    });
  }

  snapshot(): ServiceSnapshot {
    return this.#service.snapshot();
  }
}
