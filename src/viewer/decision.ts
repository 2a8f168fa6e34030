import type { WireSpan } from "./trace-source.js";

/** A span shorter than any step is a note of what was decided. */
const NOTE_MS = 0.2;

export function isNote([, , start, end]: WireSpan): boolean {
  return end - start < NOTE_MS;
}

/** Notes about single requests that are spelt out: a caption has two lines. */
const MOST_NAMED = 6;

/**
 * What was decided for the step that `hit` is, or is a note about: each note of its actor with its value, those about the
 * whole step first; "" where there is none. `spans`: all there are, in the order they were written.
 */
export function decisionOf(spans: readonly WireSpan[], hit: WireSpan): string {
  const own = spans.filter(([actor]) => actor === hit[0]);
  // A step's notes are written while it is prepared, and its own span begins with that.
  const step = isNote(hit)
    ? own.find((span) => !isNote(span) && span[2] <= hit[2] && hit[2] <= span[3])
    : hit;
  const [from, to] = step === undefined ? [hit[2], hit[2]] : [step[2], step[3]];
  const first = own.find((span) => isNote(span) && span[4] === 0 && from <= span[2] && span[2] <= to);
  if (first === undefined) return "";
  // Notes of one decision begin together.
  const notes = own.filter((span) => isNote(span) && span[2] === first[2]);
  const ofStep = notes.filter(([, , , , request]) => request === 0);
  const ofRequests = notes.filter(([, , , , request]) => request !== 0);
  const named = ofRequests.slice(0, MOST_NAMED);
  const more = ofRequests.length - named.length;
  return [
    ...ofStep.map(([, name, , , , value]) => `${name} ${short(value)}`),
    ...named.map(([, name, , , request, value]) => `request ${request}: ${short(value)} ${name}`),
    ...(more > 0 ? [`${more} requests more`] : []),
  ].join(" · ");
}

function short(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(2);
}
