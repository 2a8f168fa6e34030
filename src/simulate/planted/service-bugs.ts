import type { GenerationService, GenerationSink } from "../../gateway/generation.js";
import { CALM, CANCELS, CREDIT, type PlantedBug } from "./bug.js";
import { everyNth } from "./tamper.js";

/** Bugs of the gateway towards its clients. */

function withSink(
  service: GenerationService,
  change: (sink: GenerationSink) => Partial<GenerationSink>,
): GenerationService {
  return {
    info: service.info,
    snapshot: () => service.snapshot(),
    generate: (request, sink) =>
      service.generate(request, {
        tokens: (delivered) => sink.tokens(delivered),
        done: (summary) => sink.done(summary),
        failed: (error) => sink.failed(error),
        ...change(sink),
      }),
  };
}

export const SERVICE_BUGS: readonly PlantedBug[] = [
  {
    name: "ended-twice",
    about: "a client is told of the end twice",
    caughtBy: ["ending"],
    plan: CALM,
    tampering: () => ({
      service: (service) =>
        withSink(service, (sink) => ({
          done: (summary) => {
            sink.done(summary);
            sink.done(summary);
          },
        })),
    }),
  },
  {
    name: "delivered-twice",
    about: "a client is given the same tokens twice",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: () => {
      const now = everyNth(9);
      return {
        service: (service) =>
          withSink(service, (sink) => ({
            tokens: (delivered) => {
              sink.tokens(delivered);
              if (now()) sink.tokens(delivered);
            },
          })),
      };
    },
  },
  {
    name: "end-withheld",
    about: "a client is never told of its request's end",
    caughtBy: ["forgotten"],
    plan: CALM,
    tampering: () => ({ service: (service) => withSink(service, () => ({ done: () => {} })) }),
  },
  {
    name: "cancel-ignored",
    about: "the gateway does nothing when a client cancels",
    caughtBy: ["forgotten", "ending"],
    plan: CANCELS,
    tampering: () => ({
      service: (service) => ({
        info: service.info,
        snapshot: () => service.snapshot(),
        generate: (request, sink) => ({ ...service.generate(request, sink), cancel: () => {} }),
      }),
    }),
  },
  {
    name: "credit-ignored",
    about: "the gateway sends whatever it has",
    caughtBy: ["credit"],
    plan: CREDIT,
    tampering: () => ({
      service: (service) => ({
        info: service.info,
        snapshot: () => service.snapshot(),
        generate: (request, sink) => service.generate({ ...request, credit: Number.POSITIVE_INFINITY }, sink),
      }),
    }),
  },
  {
    name: "refused-for-nothing",
    about: "a request fails although nothing stands in its way",
    caughtBy: ["ending"],
    plan: CALM,
    tampering: () => ({
      service: (service) => ({
        info: service.info,
        snapshot: () => service.snapshot(),
        generate: (request, sink) => service.generate({ ...request, prompt: new Uint32Array() }, sink),
      }),
    }),
  },
];
