import type * as z from "zod";
import type { configSchema } from "#streamserve/config/schema.js";

/** A part of the system, how it is loaded while it is judged, and what is usual in its place. */
export interface Part {
  readonly name: string;
  readonly about: string;
  /** Pairs of the whole system. */
  readonly pairs: number;
  /** Arrivals as a multiple of what the whole system can serve; in the simulator see `simulated.ts`. */
  readonly load: number;
  readonly substitutes: readonly Substitute[];
}

export interface Substitute {
  readonly name: string;
  readonly settings: Settings;
  /** Pairs for each of the whole system's: a fused pair is one device, any other is two. Where all share one CPU it is 1. */
  readonly pairsFor?: number;
}

export type Settings = Pick<
  z.input<typeof configSchema>,
  "router" | "scheduler" | "speculation" | "lanes" | "prefill" | "decode"
>;

export const WHOLE: Substitute = { name: "whole system", settings: {} };

const SPECULATION: readonly Substitute[] = [
  { name: "no drafts", settings: { speculation: { maxDepth: 0 } } },
  // Fixed depths draft from suffixes of two tokens and more: with one they would propose something at nearly every step.
  ...[2, 4, 8].map((depth) => ({
    name: `depth ${depth}`,
    settings: { speculation: { maxDepth: depth, fixedDepth: depth, shortestSuffix: 2 } },
  })),
  { name: "acceptance only", settings: { speculation: { policy: "acceptance", shortestSuffix: 2 } } },
];

export const PARTS: readonly Part[] = [
  {
    name: "router",
    about: "two pairs, near what they can serve",
    pairs: 2,
    load: 0.8,
    substitutes: [
      { name: "round robin", settings: { router: { policy: "round-robin" } } },
      { name: "least loaded", settings: { router: { policy: "least-loaded" } } },
      { name: "prefix only", settings: { router: { policy: "prefix" } } },
    ],
  },
  {
    name: "scheduler",
    about: "twice what can be served",
    pairs: 1,
    load: 2,
    substitutes: [{ name: "FIFO, all admitted", settings: { scheduler: { policy: "fifo" } } }],
  },
  {
    name: "speculation, few streams",
    about: "a fifth of what can be served",
    pairs: 1,
    load: 0.2,
    substitutes: SPECULATION,
  },
  {
    name: "speculation, many streams",
    about: "near what can be served",
    pairs: 1,
    load: 0.8,
    substitutes: SPECULATION,
  },
  {
    name: "lanes",
    about: "near what can be served",
    pairs: 1,
    load: 0.8,
    substitutes: [
      { name: "fused", settings: { lanes: "fused" }, pairsFor: 2 },
      { name: "static roles", settings: { router: { roles: "static" } } },
    ],
  },
];
