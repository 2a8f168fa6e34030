/** Who is to be told of each signal. */
const told = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls `act` when `signal` aborts, unless the function that this returns was called before. A signal gets one listener
 * for all: one may end a thousand generations, and Node warns of more than ten. Runs in Node and browsers.
 */
export function onAbort(signal: AbortSignal, act: () => void): () => void {
  const others = told.get(signal);
  const acts = others ?? new Set();
  acts.add(act);
  if (others === undefined) {
    told.set(signal, acts);
    signal.addEventListener("abort", () => tellAll(acts), { once: true });
  }
  return () => acts.delete(act);
}

function tellAll(acts: Set<() => void>): void {
  for (const act of acts) act();
  acts.clear();
}
