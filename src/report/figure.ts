/** A plot as data: what a command found worth drawing. `svg.ts` draws it. */
export type Figure = BarFigure | LineFigure | RooflineFigure;

interface Labels {
  readonly title: string;
  /** What the value axis counts, with its unit. */
  readonly valueLabel: string;
}

/** Groups of bars: one bar a series in each group. A value that was not measured is null and draws nothing. */
export interface BarFigure extends Labels {
  readonly kind: "bars";
  /**
   * Values are ratios, all above 0: bars begin at 1 on a logarithmic axis, so that half is as far below as twice is above.
   */
  readonly ratios?: boolean | undefined;
  readonly groups: readonly string[];
  readonly series: readonly {
    readonly name: string;
    readonly values: readonly (number | null)[];
    /** The least and the most that was measured for each value. */
    readonly spans?: readonly (readonly [number, number] | null)[] | undefined;
  }[];
}

export interface LineFigure extends Labels {
  readonly kind: "lines";
  readonly xLabel: string;
  /** Both axes logarithmic (base 2 on x): rooflines, batch sizes. */
  readonly logarithmic: boolean;
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly (readonly [number, number])[];
  }[];
  /** Where the x axis begins; at the least x when absent. */
  readonly xFrom?: number | undefined;
  /** Stretches of the x axis with something to be said of them, of linear figures. */
  readonly marks?: readonly Mark[] | undefined;
}

/** From `from` to `to` on the x axis; a moment where both are equal. */
export interface Mark {
  readonly label: string;
  readonly from: number;
  readonly to: number;
}

/**
 * What work reaches beside what the machine can do: both axes logarithmic. A point's x is its operations per byte, its y
 * the operations a second.
 */
export interface RooflineFigure extends Labels {
  readonly kind: "roofline";
  readonly xLabel: string;
  /** Slanted roofs: units of y for one of x, which is bytes a second. */
  readonly slopes: readonly Roof[];
  /** Level roofs: operations a second. */
  readonly levels: readonly Roof[];
  /** One colour each. Points of one label have one shape over all series. */
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly { readonly label: string; readonly x: number; readonly y: number }[];
  }[];
}

export interface Roof {
  readonly name: string;
  readonly value: number;
}
