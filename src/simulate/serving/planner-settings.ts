import { z } from "zod";
import { StreamServeError } from "../../errors.js";
import { RECORDED_SETS } from "../../model/recording.js";
import { type PlannedFault, parseFault } from "./planned-faults.js";
import type { Settings } from "./serving.js";

/** A share of the mix as a plan writes it. */
export type PlannedSet = { readonly weight: number } & (
  | { readonly recorded: string }
  | { readonly promptTokens: number; readonly outputTokens: number }
);

/** What a planner is asked, as a YAML file and as flags: the same names, flags in kebab case. */

const positive = z.number().positive();
const count = z.number().int().positive();
const MOST_REQUESTS = 10_000_000;
const MOST_PAIRS = 10_000;
/** `1..20`, `1..20:2` (the step) or `1,2,4`. */
const range = z.union([positive, z.string(), z.array(positive)]).transform((value, context) => {
  const values = rangeOf(value);
  if (values) return values;
  context.addIssue({
    code: "custom",
    message: `write it as 4, 1,2,4, 1..20 or 1..20:2, not ${String(value)}`,
  });
  return z.NEVER;
});
/** `alpaca:1,sum:2`, or the same as a mapping. */
const sets = z.union([z.string(), z.record(z.string(), z.number())]).transform((value, context) => {
  const shares = sharesOf(value);
  if (typeof shares !== "string") return shares;
  context.addIssue({ code: "custom", message: shares });
  return z.NEVER;
});

/** Faults of a plan at most: each may strike thousands of lanes. */
const MOST_FAULTS = 100;
/** One fault, or several: `kill:decode.1@30`. */
const faults = z.union([z.string(), z.array(z.string()).max(MOST_FAULTS)]).transform((value, context) => {
  const parsed = (typeof value === "string" ? [value] : value).map(parseFault);
  const message = parsed.find((one) => typeof one === "string");
  if (message === undefined) return parsed as PlannedFault[];
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

export const plannerSchema = z.strictObject({
  /** A profile of config/hardware, or the path of one. */
  hardware: z.string().default("a800-7b"),
  /** Stream pairs: one number, or several to compare. */
  pairs: range.prefault(1),
  /** Requests a second over all pairs: one number, or several to compare. */
  rate: range.optional(),
  /** Coefficient of variation of the gaps between requests: 1 is Poisson, 0 evenly spaced, more is bursts. */
  cv: z.number().min(0).max(20).default(1),
  /** Seconds on and off: requests come in bursts, at `rate` on the whole. */
  bursts: z
    .string()
    .regex(/^\d+(\.\d+)?\/\d+(\.\d+)?$/, "write it as ON/OFF, seconds each")
    .optional(),
  /** A closed loop of so many users. */
  users: range.optional(),
  thinkMs: z.number().nonnegative().default(0),
  /** A trace file in Mooncake's format. */
  trace: z.string().optional(),
  traceSpeed: positive.default(1),
  traceBlockTokens: count.default(512),
  /** Where texts come from; absent: of the four sets as much each, and for a trace random ones. */
  sets: sets.optional(),
  /** Output tokens that clients ask for, at most: longer recorded answers are cut. */
  maxTokens: count.default(256),
  /** How long requests come, in virtual seconds. */
  seconds: positive.max(1e7).default(60),
  /** How many come, whatever the time. */
  requests: count.max(MOST_REQUESTS).optional(),
  /** Virtual seconds at the beginning that only warm lanes and caches up. */
  warmUpSeconds: z.number().nonnegative().default(0),
  /** What befalls lanes and other actors, in every run. */
  faults: faults.default([]),
  sloTtftMs: z.number().nonnegative().default(1000),
  sloTpotMs: z.number().nonnegative().default(50),
  /** Share of requests that must keep both. */
  sloShare: z.number().gt(0).max(1).default(0.99),
  /** `rate`: the highest that keeps to it, for each number of pairs; `pairs`: the fewest for each rate. */
  find: z.enum(["rate", "pairs"]).optional(),
  /** `config`: what the configuration promises; `slo`: the objectives above; `fifo`: everyone at once, in order. */
  admission: z.enum(["config", "slo", "fifo"]).default("config"),
  router: z.string().optional(),
  /** `adaptive`, `off`, `acceptance`, or a number of drafts. */
  speculation: z.union([z.number(), z.string()]).optional(),
  lanes: z.enum(["disaggregated", "fused"]).optional(),
  /** Any other keys of the configuration. */
  settings: z.record(z.string(), z.unknown()).default({}),
  seed: z.number().int().nonnegative().max(0xffffffff).default(1),
});

export type PlannerSettings = z.output<typeof plannerSchema>;

/** Checks plain data; `place` says where a key was written. Throws `config_invalid` or `config_unknown_key`. */
export function checkPlannerSettings(data: unknown, place: (key: string) => string): PlannerSettings {
  const parsed = plannerSchema.safeParse(data);
  if (!parsed.success) throw explained(parsed.error, place);
  const settings = parsed.data;
  const wrong = contradiction(settings);
  if (wrong) throw new StreamServeError("config_invalid", wrong);
  return settings;
}

function explained({ issues }: z.ZodError, place: (key: string) => string): StreamServeError {
  const unknown = issues.find((issue) => issue.code === "unrecognized_keys");
  if (unknown?.code === "unrecognized_keys") {
    const key = unknown.keys[0] ?? "";
    const known = Object.keys(plannerSchema.shape).join(", ");
    return new StreamServeError(
      "config_unknown_key",
      `"${key}" (${place(key)}) is no key of a plan: ${known}.`,
      {
        key,
      },
    );
  }
  const issue = issues[0]!;
  const key = String(issue.path[0] ?? "");
  const message = issue.message.replace(/^Invalid input: /, "");
  return new StreamServeError("config_invalid", `"${key}" (${place(key)}) can't be used: ${message}.`, {
    key,
  });
}

function contradiction({ rate, users, trace, find, pairs, bursts, cv }: PlannerSettings): string | undefined {
  const sources = [rate && "rate", users && "users", trace && "trace"].filter(Boolean);
  if (sources.length > 1) return `Requests come in one way: by ${sources.join(" or by ")}, not both.`;
  if (sources.length === 0 && find !== "rate") return "Say how requests come: rate, users or trace.";
  if (find && (users || trace)) return `"find" is for requests that come at a rate.`;
  if (find === "pairs" && pairs.length > 1) return `"find: pairs" begins at one number of pairs.`;
  if (bursts && cv !== 1) return `Gaps have bursts or a cv, not both.`;
  if (pairs.some((one) => !Number.isInteger(one) || one > MOST_PAIRS)) {
    return `"pairs" takes whole numbers up to ${MOST_PAIRS}.`;
  }
  if (users?.some((one) => !Number.isInteger(one))) return `"users" takes whole numbers.`;
  return undefined;
}

/** Most points of a range: a sweep of more is a mistake. */
const MOST_POINTS = 1000;

function rangeOf(value: number | string | readonly number[]): number[] | undefined {
  if (typeof value === "number") return [value];
  if (typeof value !== "string") return [...value];
  const span = /^(\d+(?:\.\d+)?)\.\.(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?$/.exec(value.trim());
  if (span) {
    const [from, to, step] = [Number(span[1]), Number(span[2]), Number(span[3] ?? 1)];
    const points = Math.floor((to - from) / step + 1e-9) + 1;
    if (!(from > 0 && points >= 1 && points <= MOST_POINTS)) return undefined;
    return Array.from({ length: points }, (_, i) => Number((from + i * step).toPrecision(12)));
  }
  const values = value.split(",").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  return values.every((one) => one > 0 && Number.isFinite(one)) ? values : undefined;
}

/** The shares, or what is wrong with them. */
function sharesOf(value: string | Record<string, number>): PlannedSet[] | string {
  const pairs =
    typeof value === "string"
      ? value.split(",").map((part): [string, number] => {
          const at = part.lastIndexOf(":");
          return at < 0 ? [part.trim(), 1] : [part.slice(0, at).trim(), Number(part.slice(at + 1))];
        })
      : Object.entries(value);
  const shares: PlannedSet[] = [];
  for (const [name, weight] of pairs) {
    if (!(weight > 0 && Number.isFinite(weight))) return `the weight of "${name}" must be above 0`;
    const sized = /^(\d+)x(\d+)$/.exec(name);
    const [promptTokens, outputTokens] = [Number(sized?.[1]), Number(sized?.[2])];
    if (sized && promptTokens > 0 && outputTokens > 0) shares.push({ weight, promptTokens, outputTokens });
    else if (name !== "" && !sized) shares.push({ weight, recorded: name });
    else
      return `write a set as one of ${RECORDED_SETS.join(", ")}, a file, or 600x120 (prompt and output tokens)`;
  }
  return shares;
}

/** The keys of the configuration that a plan sets. */
export function servingSettings(plan: PlannerSettings): Settings {
  const { admission, router, speculation, lanes, sloTtftMs, sloTpotMs } = plan;
  const promised = { ttftMs: sloTtftMs, tpotMs: sloTpotMs };
  return {
    ...(admission === "fifo" ? { scheduler: { policy: "fifo" as const } } : {}),
    ...(admission === "slo" ? { scheduler: { interactive: promised } } : {}),
    ...(router === undefined ? {} : { router: { policy: router as "flowguard" } }),
    ...(lanes === undefined ? {} : { lanes }),
    ...(speculation === undefined ? {} : { speculation: speculationOf(speculation) }),
  };
}

function speculationOf(value: number | string): NonNullable<Settings["speculation"]> {
  if (value === "adaptive") return {};
  if (value === "off" || value === 0) return { maxDepth: 0 };
  if (value === "acceptance") return { policy: "acceptance" };
  if (typeof value === "number") return { maxDepth: value, fixedDepth: value };
  throw new StreamServeError(
    "config_invalid",
    `"speculation" can't be used: it is adaptive, off, acceptance or a number of drafts, not ${value}.`,
    { key: "speculation" },
  );
}
