import { StreamServeError } from "../../errors.js";
import { decodeLane, type Fault, prefillLane } from "../plan.js";

/**
 * Faults as a planner writes them: `KIND:WHO@WHEN`, times in virtual seconds from the start.
 *
 *     kill:decode.1@30         dies at 30 s; its supervisor starts it again
 *     kill:pair.1@30..45       both lanes of pair 1; they can't be started before 45 s
 *     slow:decode.0-3@20..40x2 steps take twice as long
 *     pause:prefill.*@10..12   gets no processor
 *     full:scheduler@10..11    messages to it find its mailbox full
 *     step-fails:decode.1@30   the next step fails
 */
export interface PlannedFault {
  /** As it was written. */
  readonly text: string;
  readonly kind: Fault["kind"];
  readonly who: Who;
  readonly atMs: number;
  /** Until when; absent where it was not said: `kill` and `step-fails`. */
  readonly untilMs?: number;
  /** Of `slow`: how many times as long steps take. */
  readonly factor?: number;
}

/** An actor by name, or lanes of the pairs from `first` to `last` (the last there is when absent); `pair`: both lanes. */
type Who =
  | { readonly actor: string }
  | { readonly lanes: "prefill" | "decode" | "pair"; readonly first: number; readonly last?: number };

const FORM = /^([a-z-]+):([a-z]+(?:\.[\d*-]+)?)@([\d.]+?)(?:\.\.([\d.]+))?(?:x([\d.]+))?$/;
const LANES = /^(prefill|decode|pair)\.(?:(\d+)(?:-(\d+))?|\*)$/;
const ACTORS = ["scheduler", "router", "tuner"];
const FORM_SAID = "write it as KIND:WHO@SECONDS, e.g. kill:decode.1@30 or slow:pair.0@20..40x2";
/** Longest time a fault may be planned for, in seconds: as long as a run may be. */
const MOST_SECONDS = 1e7;
const MOST_FACTOR = 1e4;

/** What a kind of fault needs besides who and from when. */
const NEEDS = {
  kill: { until: "may", factor: "no", lanes: false },
  slow: { until: "must", factor: "must", lanes: true },
  pause: { until: "must", factor: "no", lanes: false },
  full: { until: "must", factor: "no", lanes: false },
  "step-fails": { until: "no", factor: "no", lanes: true },
} as const satisfies Record<Fault["kind"], { until: string; factor: string; lanes: boolean }>;

/** The fault, or what is wrong with the text. */
export function parseFault(text: string): PlannedFault | string {
  const parts = FORM.exec(text.trim());
  if (!parts) return `"${text}" is no fault: ${FORM_SAID}`;
  const [, kind = "", name = "", from = "", to, times] = parts;
  if (!isKind(kind)) return `"${text}": ${kind} is none of ${Object.keys(NEEDS).join(", ")}`;
  const who = whoOf(name);
  if (!who)
    return `"${text}": ${name} is none of ${ACTORS.join(", ")}, decode.N, prefill.N, pair.N, .N-M or .*`;
  const needs = NEEDS[kind];
  if (needs.lanes && !("lanes" in who)) return `"${text}": only lanes take steps`;
  const wrong =
    asked(needs.until, to, "an end", `FROM..TO`) ?? asked(needs.factor, times, "a factor", `x2 at the end`);
  if (wrong) return `"${text}": ${kind} ${wrong}`;
  const [at, until, factor] = [from, to, times].map((part) =>
    part === undefined ? undefined : Number(part),
  );
  if (!(at! >= 0 && at! <= MOST_SECONDS))
    return `"${text}": it begins at 0 to ${MOST_SECONDS} s, not ${from}`;
  if (until !== undefined && !(until > at! && until <= MOST_SECONDS)) {
    return `"${text}": it ends after it has begun, within ${MOST_SECONDS} s`;
  }
  if (factor !== undefined && !(factor > 1 && factor <= MOST_FACTOR)) {
    return `"${text}": steps take over 1 to ${MOST_FACTOR} times as long, not ${times}`;
  }
  return {
    text: text.trim(),
    kind,
    who,
    atMs: 1000 * at!,
    ...(until === undefined ? {} : { untilMs: 1000 * until }),
    ...(factor === undefined ? {} : { factor }),
  };
}

function asked(need: string, given: string | undefined, what: string, how: string): string | undefined {
  if (need === "must" && given === undefined) return `needs ${what}: write ${how}`;
  if (need === "no" && given !== undefined) return `has not ${what}`;
  return undefined;
}

function isKind(kind: string): kind is Fault["kind"] {
  return Object.hasOwn(NEEDS, kind);
}

function whoOf(name: string): Who | undefined {
  if (ACTORS.includes(name)) return { actor: name };
  const parts = LANES.exec(name);
  if (!parts) return undefined;
  const lanes = parts[1] as "prefill" | "decode" | "pair";
  if (parts[2] === undefined) return { lanes, first: 0 };
  const [first, last] = [Number(parts[2]), Number(parts[3] ?? parts[2])];
  return last >= first ? { lanes, first, last } : undefined;
}

/** What the fault does to each of its actors in a run of so many pairs. Throws `config_invalid` if there is no such pair. */
export function faultsOf(planned: PlannedFault, pairs: number): Fault[] {
  return actorsOf(planned, pairs).map((actor) => faultOf(planned, actor));
}

function actorsOf({ text, who }: PlannedFault, pairs: number): string[] {
  if ("actor" in who) return [who.actor];
  const { lanes, first, last = pairs - 1 } = who;
  if (last >= pairs) {
    const said =
      pairs === 1
        ? "of one pair there is number 0 alone"
        : `of ${pairs} pairs the last is number ${pairs - 1}`;
    throw new StreamServeError("config_invalid", `"faults" can't be used: "${text}": ${said}.`, {
      key: "faults",
    });
  }
  return Array.from({ length: last - first + 1 }, (_, i) => first + i).flatMap((pair) => [
    ...(lanes === "decode" ? [] : [prefillLane(pair)]),
    ...(lanes === "prefill" ? [] : [decodeLane(pair)]),
  ]);
}

function faultOf({ kind, atMs, untilMs = atMs, factor = 1 }: PlannedFault, actor: string): Fault {
  const when = { kind: "time", atMs } as const;
  const forMs = untilMs - atMs;
  switch (kind) {
    case "kill":
      return { kind, actor, when, downMs: forMs };
    case "slow":
      return { kind, actor, atMs, forMs, factor };
    case "step-fails":
      return { kind, actor, nth: 1, afterMs: atMs };
    default:
      return { kind, actor, when, forMs };
  }
}
