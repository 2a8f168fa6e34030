/** Who gives way when somebody else needs blocks, or a place. Pure. */

export interface Yielding {
  /** Blocks that come free when it gives way. */
  readonly blocks: number;
  /** When it was admitted, in milliseconds. */
  readonly since: number;
}

/**
 * Of running offline work, what gives way so that at least `blocks` blocks and `places` places come free: whoever
 * was admitted last goes first, having least to lose. Nobody when all together would not be enough.
 */
export function chooseYielding<Y extends Yielding>(
  candidates: readonly Y[],
  blocks: number,
  places: number,
): Y[] {
  const chosen: Y[] = [];
  let freed = 0;
  for (const one of [...candidates].sort((a, b) => b.since - a.since)) {
    if (freed >= blocks && chosen.length >= places) break;
    chosen.push(one);
    freed += one.blocks;
  }
  return freed >= blocks && chosen.length >= places ? chosen : [];
}

/** A row of a lane, as far as it matters when the pool is empty. */
export interface Holder {
  readonly offline: boolean;
  /** It computes nothing now: its reader takes nothing. */
  readonly parked: boolean;
  /** It holds more than was reserved for it. */
  readonly overdrawn: boolean;
}

/**
 * Which row gives its blocks back when a lane's step finds too few: an offline one; else one that computes nothing
 * anyway; else one that holds more than was reserved for it, since what was reserved fits; else any. Of several the
 * youngest, so that the oldest always gets on. `rows` are in order of arrival.
 */
export function chooseVictim<H extends Holder>(rows: readonly H[]): H | undefined {
  return (
    rows.findLast((row) => row.offline) ??
    rows.findLast((row) => row.parked) ??
    rows.findLast((row) => row.overdrawn) ??
    rows.at(-1)
  );
}
