/** A small seeded generator (xorshift32 seeded through an integer hash): orders and arrivals repeat with a seed. */
export function seededRandom(seed: number): () => number {
  let state = Math.imul((seed >>> 0) ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return (state - 1) / 0xffffffff;
  };
}

/** `count` items, going round a shuffled copy as often as needed. */
export function drawOrder<T>(items: readonly T[], count: number, random: () => number): T[] {
  const deck = [...items];
  for (let last = deck.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [deck[last], deck[other]] = [deck[other]!, deck[last]!];
  }
  return Array.from({ length: count }, (_, index) => deck[index % deck.length]!);
}

/** Offsets in milliseconds of a Poisson process: exponential gaps with mean 1000 / rate; the first at once. */
export function poissonArrivals(count: number, perSecond: number, random: () => number): number[] {
  let at = 0;
  return Array.from({ length: count }, (_, index) => {
    if (index > 0) at += (-Math.log(1 - random()) * 1000) / perSecond;
    return at;
  });
}
