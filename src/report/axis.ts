/** Maps values of an axis to positions, and picks values worth a tick. */
export interface Scale {
  readonly low: number;
  readonly high: number;
  readonly logarithmic: boolean;
  /** The position of a value; values off the axis are extrapolated. */
  place(value: number): number;
}

/** `from` is the position of the low end. The high end is rounded up to a tick. */
export function linearScale(low: number, high: number, from: number, to: number): Scale {
  const step = tickStep(high - low || 1);
  const top = low + Math.max(1, Math.ceil((high - low) / step)) * step;
  return {
    low,
    high: top,
    logarithmic: false,
    place: (value) => from + ((value - low) / (top - low)) * (to - from),
  };
}

/** Base 2, both ends widened to powers of two. Throws RangeError for values that have no logarithm. */
export function logScale(low: number, high: number, from: number, to: number): Scale {
  if (!(low > 0 && Number.isFinite(high)))
    throw new RangeError("A logarithmic axis takes positive values alone.");
  const first = Math.floor(Math.log2(low));
  const last = Math.max(first + 1, Math.ceil(Math.log2(high)));
  return {
    low: 2 ** first,
    high: 2 ** last,
    logarithmic: true,
    place: (value) => from + ((Math.log2(value) - first) / (last - first)) * (to - from),
  };
}

/** At most about ten, both ends included on a logarithmic axis of few octaves. */
export function axisTicks(scale: Scale): number[] {
  if (scale.logarithmic) {
    const first = Math.log2(scale.low);
    const octaves = Math.log2(scale.high) - first;
    const stride = Math.ceil(octaves / 10);
    return Array.from(
      { length: Math.floor(octaves / stride) + 1 },
      (_, index) => 2 ** (first + index * stride),
    );
  }
  const step = tickStep(scale.high - scale.low);
  const count = Math.round((scale.high - scale.low) / step);
  return Array.from({ length: count + 1 }, (_, index) => scale.low + index * step);
}

/** 1, 2 or 5 times a power of ten, so that an axis has four to ten of them. */
function tickStep(span: number): number {
  const magnitude = 10 ** Math.floor(Math.log10(span / 4));
  const lead = span / 4 / magnitude;
  return (lead >= 5 ? 5 : lead >= 2 ? 2 : 1) * magnitude;
}

/** Three significant digits without an exponent, trailing zeros dropped; thousands as k, millions as M. */
export function formatTick(value: number): string {
  if (Math.abs(value) >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  if (Math.abs(value) >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`;
  return String(Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(3)));
}
