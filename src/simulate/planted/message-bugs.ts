import type { AppMessage, MessageNamed } from "../../actors/messages.js";
import type { Tampering } from "../run.js";
import { CALM, CANCELS, CLASSES, CREDIT, DEADLINES, DEATHS, type PlantedBug, TENANTS } from "./bug.js";
import { everyNth, type Interference, interfere } from "./tamper.js";

/** Bugs in what actors say, hear and remember. */

/** Interferes with each actor of a role. */
function inRole(role: string, interference: () => Interference): () => Tampering {
  return () => ({
    behaviour: (actor, behaviour) =>
      actor.split(".")[0] === role ? interfere(behaviour, interference()) : behaviour,
  });
}

/** Messages for which `lost` holds are never sent. */
function losing(lost: (message: AppMessage, to: string) => boolean): Interference {
  return { tell: (to, message, send) => lost(message, to) || send(message) };
}

/** Messages for which `lost` holds are never heard. */
function deaf(lost: (message: AppMessage) => boolean): Interference {
  return { receive: (message, pass) => void (lost(message) || pass(message)) };
}

type Tokens = MessageNamed<"tokens">;

/** Changes what decode lanes tell of their first row with at least `least` tokens, every third time. */
function inTokens(least: number, change: (message: Tokens) => Tokens): () => Interference {
  return () => {
    const now = everyNth(3);
    return {
      tell: (_, message, send) => {
        const fits = message.type === "tokens" && (message.rows[0]?.count ?? 0) >= least;
        return send(fits && now() ? change(message) : message);
      },
    };
  };
}

function withRow(
  message: Tokens,
  count: number,
  ids: readonly number[],
  logprobs: readonly number[],
): Tokens {
  const [first, ...rest] = message.rows;
  return {
    ...message,
    rows: [{ ...first!, count }, ...rest],
    ids: Uint32Array.from(ids),
    logprobs: Float32Array.from(logprobs),
  };
}

/** Holds one of the decode lanes' token messages back until after the next. */
function reordering(): Interference {
  const now = everyNth(7);
  let held: AppMessage | undefined;
  return {
    tell: (_, message, send) => {
      if (message.type !== "tokens") return send(message);
      if (!held && now()) {
        held = message;
        return true;
      }
      const sent = send(message);
      if (held) send(held);
      held = undefined;
      return sent;
    },
  };
}

export const MESSAGE_BUGS: readonly PlantedBug[] = [
  {
    name: "hold-ignored",
    about: "decode lanes go on with offline rows whatever the scheduler says",
    caughtBy: ["class"],
    plan: CLASSES,
    tampering: inRole("decode", () => deaf((message) => message.type === "hold")),
  },
  {
    name: "class-forgotten",
    about: "offline requests are submitted as interactive ones",
    caughtBy: ["class"],
    plan: CLASSES,
    tampering: inRole("gateway", () => ({
      tell: (_, message, send) => send(message.type === "submit" ? { ...message, class: 0 } : message),
    })),
  },
  {
    name: "tenants-mixed-up",
    about: "requests are submitted without their tenants",
    caughtBy: ["share"],
    plan: TENANTS,
    tampering: inRole("gateway", () => ({
      tell: (_, message, send) => send(message.type === "submit" ? { ...message, tenant: 0 } : message),
    })),
  },
  {
    name: "cancel-not-forwarded",
    about: "a cancel reaches the prefill lane alone, and is not passed on to its decode lane",
    caughtBy: ["forgotten", "release"],
    plan: CANCELS,
    tampering: inRole("decode", () => deaf((message) => message.type === "cancel")),
  },
  {
    name: "last-word-lost",
    about: "the confirmation of a cancel never reaches the gateway",
    caughtBy: ["forgotten"],
    plan: CANCELS,
    tampering: inRole("decode", () => losing((message) => message.type === "failed")),
  },
  {
    name: "reply-lost",
    about: "the end of an answer is lost, and audits are not answered either",
    caughtBy: ["forgotten", "ending"],
    plan: CALM,
    tampering: inRole("decode", () =>
      losing(
        (message) =>
          message.type === "audited" || (message.type === "tokens" && message.rows.some((r) => r.finish)),
      ),
    ),
  },
  {
    name: "token-skipped",
    about: "a decode lane leaves out a token",
    caughtBy: ["stream", "ending"],
    plan: CALM,
    tampering: inRole(
      "decode",
      inTokens(1, (message) =>
        withRow(
          message,
          message.rows[0]!.count - 1,
          [...message.ids.slice(1)],
          [...message.logprobs.slice(1)],
        ),
      ),
    ),
  },
  {
    name: "token-repeated",
    about: "a decode lane says a token twice",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: inRole(
      "decode",
      inTokens(1, (message) =>
        withRow(
          message,
          message.rows[0]!.count + 1,
          [message.ids[0]!, ...message.ids],
          [message.logprobs[0]!, ...message.logprobs],
        ),
      ),
    ),
  },
  {
    name: "tokens-swapped",
    about: "two tokens of a step change places",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: inRole(
      "decode",
      inTokens(2, (message) => {
        const [a, b, ...rest] = message.ids;
        return withRow(message, message.rows[0]!.count, [b!, a!, ...rest], [...message.logprobs]);
      }),
    ),
  },
  {
    name: "steps-reordered",
    about: "a step's tokens overtake those of the step before",
    caughtBy: ["stream", "ending"],
    plan: CALM,
    tampering: inRole("decode", reordering),
  },
  {
    name: "reservation-leaked",
    about: "the scheduler does not hear that requests have ended, nor what the lanes hold",
    caughtBy: ["quiescence"],
    plan: CALM,
    tampering: inRole("scheduler", () =>
      deaf((message) => message.type === "ended" || message.type === "audited"),
    ),
  },
  {
    name: "resubmitted-as-prompt",
    about: "a request goes out again with its delivered tokens passed off as prompt",
    caughtBy: ["stream", "ending"],
    plan: DEATHS,
    tampering: inRole("gateway", () => ({
      tell: (_, message, send) =>
        send(
          message.type === "submit" && message.attempt > 0
            ? { ...message, outputFrom: message.promptTokens }
            : message,
        ),
    })),
  },
  {
    name: "resubmitted-short",
    about: "a request goes out again without its last delivered token but as if it were there",
    caughtBy: ["stream", "ending"],
    plan: DEATHS,
    tampering: inRole("gateway", () => ({
      tell: (_, message, send) => {
        const again = message.type === "submit" && message.promptTokens > message.outputFrom;
        const { promptTokens, outputFrom } = message as MessageNamed<"submit">;
        return send(
          again
            ? ({ ...message, promptTokens: promptTokens - 1, outputFrom: outputFrom - 1 } as AppMessage)
            : message,
        );
      },
    })),
  },
  {
    name: "never-resubmitted",
    about: "requests of a dead lane are not submitted again",
    caughtBy: ["forgotten", "ending"],
    plan: DEATHS,
    tampering: inRole("gateway", () => losing((message) => message.type === "submit" && message.attempt > 0)),
  },
  {
    name: "request-starved",
    about: "the router never sends one of the requests on",
    caughtBy: ["forgotten", "ending"],
    plan: CALM,
    tampering: inRole("router", () => deaf((message) => message.type === "route" && message.request === 5)),
  },
  {
    name: "deadline-ignored",
    about: "nobody watches deadlines",
    caughtBy: ["deadline"],
    plan: DEADLINES,
    tampering: inRole("gateway", () => ({
      receive: (message, pass) => void (message.type === "deadline" || pass(message)),
      tell: (_, message, send) => send(message.type === "submit" ? { ...message, deadline: 0 } : message),
    })),
  },
  {
    name: "sampling-lost",
    about: "the router drops a sampling parameter",
    caughtBy: ["stream"],
    plan: CALM,
    tampering: inRole("router", () => ({
      tell: (_, message, send) => send(message.type === "route" ? { ...message, topP: 0.5 } : message),
    })),
  },
  {
    name: "prompt-freed-early",
    about: "the gateway frees a prompt's slab region as soon as the request is submitted",
    caughtBy: ["stream", "limits", "ending", "crash"],
    plan: CALM,
    tampering: inRole("gateway", () => ({
      tell: (_, message, send, ctx) => {
        const sent = send(message);
        if (message.type === "submit") ctx.slab().free(message.prompt);
        return sent;
      },
    })),
  },
  {
    name: "prompt-leaked",
    about: "the gateway never gives slab regions back",
    caughtBy: ["quiescence"],
    plan: CALM,
    tampering: inRole("gateway", () => ({
      slab: (slab) => ({
        slab: slab.slab,
        allocate: (bytes) => slab.allocate(bytes),
        free: () => true,
        freeAll: () => slab.freeAll(),
        freeBytes: slab.freeBytes,
      }),
    })),
  },
  {
    name: "actor-throws",
    about: "the router throws at every tenth message",
    caughtBy: ["crash"],
    plan: CALM,
    tampering: inRole("router", () => {
      const now = everyNth(10);
      return {
        receive: (message, pass) => {
          if (now()) throw new Error("planted");
          pass(message);
        },
      };
    }),
  },
  {
    name: "credit-never-told",
    about: "the decode lanes never hear of new credit",
    caughtBy: ["forgotten", "ending"],
    plan: CREDIT,
    tampering: inRole("decode", () => deaf((message) => message.type === "credit")),
  },
];
