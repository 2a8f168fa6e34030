/** A plot as data: what a command found worth drawing. `svg.ts` draws it. */
export type Figure = BarFigure | LineFigure;

interface Labels {
  readonly title: string;
  /** What the value axis counts, with its unit. */
  readonly valueLabel: string;
}

/** Groups of bars: one bar a series in each group. A value that was not measured is null and draws nothing. */
export interface BarFigure extends Labels {
  readonly kind: "bars";
  readonly groups: readonly string[];
  readonly series: readonly { readonly name: string; readonly values: readonly (number | null)[] }[];
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
}
