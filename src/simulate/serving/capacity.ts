/** Searches for the edge between what keeps a promise and what does not, both taken to be monotonic. */

/** Doublings before a search gives up: a million times from where it began. */
const MOST_DOUBLINGS = 20;

/** The highest value that keeps, within `tolerance` as a share; 0 if none does. `keeps` is asked some 10 times. */
export function highestThatKeeps(
  start: number,
  tolerance: number,
  keeps: (value: number) => boolean,
): number {
  let low = 0;
  let high = Number.POSITIVE_INFINITY;
  let value = start;
  for (let tries = 0; tries < MOST_DOUBLINGS && (low === 0 || high === Number.POSITIVE_INFINITY); tries++) {
    if (keeps(value)) low = value;
    else high = value;
    value = high === Number.POSITIVE_INFINITY ? low * 2 : high / 2;
  }
  while (low > 0 && high / low > 1 + tolerance && high !== Number.POSITIVE_INFINITY) {
    const middle = rounded(Math.sqrt(low * high));
    if (!(middle > low && middle < high)) break;
    if (keeps(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** The least whole number from `start` on that keeps, at most `most`; undefined if none does. */
export function fewestThatKeep(
  start: number,
  most: number,
  keeps: (count: number) => boolean,
): number | undefined {
  let low = start - 1;
  let high = start;
  while (!keeps(high)) {
    low = high;
    if (high >= most) return undefined;
    high = Math.min(most, high * 2);
  }
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (keeps(middle)) high = middle;
    else low = middle;
  }
  return high;
}

/** Three digits: rates are read by people. */
function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
