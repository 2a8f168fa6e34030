import { planDrafts } from "#streamserve/policy/depth.js";
import { type DraftingLimits, LaneDrafts, RowDrafts } from "#streamserve/policy/drafting.js";
import type { Successors } from "#streamserve/policy/successors.js";

/** An answer that was given, to be drafted again offline. */
export interface Recorded {
  readonly prompt: Uint32Array;
  readonly answer: readonly number[];
}

/** Single-stream speed relative to depth 0 by measured step times. */
export interface Ideal {
  /** Knowing before each step how many of the drafts will hold. Nobody can: the bound of every chooser. */
  readonly clairvoyant: number;
  /** By the goodput rule on the survival learnt up to then: what the measured run should come near. */
  readonly rule: number;
  /** The best depth for all steps, with the same drafts. */
  readonly bestFixed: number;
  readonly bestDepth: number;
}

/** `known`: what the model answered elsewhere; `perTenant`: answers of a tenant, before the next one comes. `stepMs(tokens)`: measured milliseconds of a step of so many tokens, all that lies between steps included. */
export function idealOf(
  recorded: readonly Recorded[],
  limits: DraftingLimits,
  stepMs: (tokens: number) => number,
  known?: Successors,
  perTenant = Number.POSITIVE_INFINITY,
): Ideal {
  const lane = new LaneDrafts(limits, known);
  const fixed = new Float64Array(limits.maxDepth + 1);
  let plain = 0;
  let clairvoyant = 0;
  let rule = 0;
  for (const [i, { prompt, answer }] of recorded.entries()) {
    const positions = draftAnew(lane, Math.floor(i / perTenant), prompt, answer, stepMs);
    plain += positions.length * stepMs(1);
    clairvoyant += leastMs(positions, stepMs);
    rule += walk(positions, ({ planned }) => planned, stepMs);
    fixed.forEach((_, depth) => {
      fixed[depth]! += walk(positions, () => depth, stepMs);
    });
  }
  const bestDepth = fixed.indexOf(Math.min(...fixed));
  return {
    clairvoyant: plain / clairvoyant,
    rule: plain / rule,
    bestFixed: plain / fixed[bestDepth]!,
    bestDepth,
  };
}

/** What would be drafted before a token of an answer: how many drafts, how many hold, how many the rule takes. */
interface Position {
  readonly drafts: number;
  readonly hold: number;
  readonly planned: number;
}

function draftAnew(
  lane: LaneDrafts,
  tenant: number,
  prompt: Uint32Array,
  answer: readonly number[],
  stepMs: (tokens: number) => number,
): Position[] {
  const { maxDepth } = lane.limits;
  const row = new RowDrafts(lane, tenant, prompt.length + answer.length, false);
  const into = new Uint32Array(maxDepth);
  row.read(prompt);
  row.accept(answer.slice(0, 1));
  return answer.slice(1).map((token, i) => {
    const drafts = row.draft(into, 0, answer.length - i - 2);
    let hold = 0;
    while (hold < drafts && into[hold] === answer[i + 1 + hold]) hold++;
    const planned = planDrafts([row.outlook], maxDepth, stepMs).drafts;
    row.accept([token]);
    return { drafts, hold, planned };
  });
}

/** Milliseconds of an answer when each step takes `depth` drafts where there are so many. */
function walk(
  positions: readonly Position[],
  depth: (position: Position) => number,
  stepMs: (tokens: number) => number,
): number {
  let ms = 0;
  for (let i = 0; i < positions.length; ) {
    const position = positions[i]!;
    const taken = Math.min(position.drafts, depth(position));
    ms += stepMs(1 + taken);
    i += 1 + Math.min(taken, position.hold);
  }
  return ms;
}

/** The least milliseconds of an answer over all choices of depth: from its end, position by position. */
function leastMs(positions: readonly Position[], stepMs: (tokens: number) => number): number {
  const left = new Float64Array(positions.length + 1);
  for (let i = positions.length - 1; i >= 0; i--) {
    const { drafts, hold } = positions[i]!;
    let least = Number.POSITIVE_INFINITY;
    for (let depth = 0; depth <= drafts; depth++) {
      const after = Math.min(positions.length, i + 1 + Math.min(depth, hold));
      least = Math.min(least, stepMs(1 + depth) + left[after]!);
    }
    left[i] = least;
  }
  return left[0]!;
}
