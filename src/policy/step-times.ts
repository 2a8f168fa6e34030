/** The shape of a step. */
export interface StepShape {
  /** New tokens over all rows, drafts included. */
  readonly tokens: number;
  /** Tokens in the KV before the step, summed over its rows. */
  readonly contextTokens: number;
  readonly rows: number;
  /** Share of the step, 0 to 1, during which lanes of the other kind compute too and have cores of their own. */
  readonly shared?: number;
}

/**
 * How long steps take, as plain numbers: milliseconds at some numbers of new tokens, in between on straight lines,
 * and what context and rows add. A lane learns them (step-cost.ts), and others read them.
 */
export class StepTimes {
  /** `knots`: ascending numbers of new tokens, at least two; `coefficients`: see `toArray`. */
  constructor(
    readonly knots: Float64Array,
    /**
     * Milliseconds of a one-row step at each knot without context; then what comes on top: a thousand tokens of
     * context read, a thousand attended to by a row's new tokens after its first, a row after the first.
     */
    readonly coefficients: Float64Array,
    /** Factor on a step all of which ran beside lanes of the other kind. */
    public sharedFactor: number,
  ) {}

  /**
   * Predicted milliseconds; always positive. More tokens may take less time: the kernels of some panel widths are
   * better than those of narrower ones.
   */
  predict(shape: StepShape): number {
    const { knots, coefficients } = this;
    const segment = this.#segment(shape.tokens);
    const along = this.#along(shape.tokens, segment);
    // Past the last knot: on along the line through the last two.
    let ms = coefficients[segment]! * (1 - along) + coefficients[segment + 1]! * along;
    ms += coefficients[knots.length]! * read(shape);
    ms += coefficients[knots.length + 1]! * attended(shape);
    ms += coefficients[knots.length + 2]! * Math.max(0, shape.rows - 1);
    return Math.max(1e-3, ms * this.factor(shape));
  }

  /** What sharing cores makes of a step. */
  factor({ shared = 0 }: StepShape): number {
    return 1 + shared * (this.sharedFactor - 1);
  }

  /** How the prediction depends on the coefficients: written to `into`, sharing left out. */
  describe(shape: StepShape, into: Float64Array): void {
    const { knots } = this;
    const segment = this.#segment(shape.tokens);
    const along = this.#along(shape.tokens, segment);
    into.fill(0);
    into[segment] = 1 - along;
    into[segment + 1] = along;
    into[knots.length] = read(shape);
    into[knots.length + 1] = attended(shape);
    into[knots.length + 2] = Math.max(0, shape.rows - 1);
  }

  /** For a message: the shared factor, then knots, then coefficients. */
  toArray(): Float32Array {
    return Float32Array.of(this.sharedFactor, ...this.knots, ...this.coefficients);
  }

  /** What `toArray` gave; undefined for an array that it can't have given. */
  static fromArray(array: ArrayLike<number>): StepTimes | undefined {
    const count = (array.length - 4) / 2;
    if (!Number.isInteger(count) || count < 2) return undefined;
    const all = Float64Array.from(array);
    return new StepTimes(all.subarray(1, 1 + count), all.subarray(1 + count), all[0]!);
  }

  #segment(tokens: number): number {
    const { knots } = this;
    let low = 0;
    let high = knots.length - 2;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (knots[middle]! <= tokens) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** How far `tokens` lies along a segment: 0 at its left end, 1 at its right. */
  #along(tokens: number, segment: number): number {
    const left = this.knots[segment]!;
    return Math.max(0, tokens - left) / (this.knots[segment + 1]! - left);
  }
}

/** Thousands of tokens of context read. Rows of a verification share each load of K and V. */
function read({ contextTokens }: StepShape): number {
  return contextTokens / 1000;
}

/** Thousands of tokens of context that new tokens after their row's first attend to. */
function attended({ tokens, contextTokens, rows }: StepShape): number {
  return (contextTokens / 1000) * Math.max(0, tokens / Math.max(1, rows) - 1);
}
