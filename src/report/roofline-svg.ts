import { logScale, type Scale } from "./axis.js";
import type { RooflineFigure } from "./figure.js";
import { colour, numberAxis, PLOT, round, text, valueAxis } from "./svg-parts.js";

/** Shapes of points, by label, around the origin: told apart in grey too. */
const SHAPES = [
  '<circle r="5"/>',
  '<rect x="-4.5" y="-4.5" width="9" height="9"/>',
  '<path d="M0-6.5 6.5 0 0 6.5-6.5 0Z"/>',
  '<path d="M0-6 6 5H-6Z"/>',
  '<path d="M0 6-6-5H6Z"/>',
  '<path d="M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z"/>',
  '<path d="M-6-3 0-6 6-3V3L0 6-6 3Z"/>',
  '<path d="M-7-3H7V3H-7Z"/>',
];

/** The roofs as lines, the points below them, and a key to their shapes in the corner that roofs leave free. */
export function drawRoofline(figure: RooflineFigure): string[] {
  const points = figure.series.flatMap((series) => series.points);
  const slopes = figure.slopes.map(({ value }) => value);
  const levels = figure.levels.map(({ value }) => value);
  const top = Math.max(...levels);
  const xs = [...points.map(({ x }) => x), ...slopes.map((slope) => (2 * top) / slope)];
  const x = logScale(Math.min(...xs), Math.max(...xs), PLOT.left, PLOT.right);
  // Room above the highest roof for its name.
  const y = logScale(
    Math.min(...points.map((point) => point.y), ...levels),
    top * 1.5,
    PLOT.bottom,
    PLOT.top,
  );
  const labels = [...new Set(points.map(({ label }) => label))];
  return [
    ...valueAxis(y, figure.valueLabel),
    ...numberAxis(x, figure.xLabel),
    ...figure.slopes.flatMap(({ name, value }, index) => slopeRoof(name, value, index, top, x, y)),
    ...figure.levels.flatMap(({ name, value }) => levelRoof(name, value, Math.max(...slopes), x, y)),
    ...figure.series.flatMap((series, index) =>
      series.points.map((point) =>
        shape(labels.indexOf(point.label), x.place(point.x), y.place(point.y), colour(index)),
      ),
    ),
    ...key(labels),
  ];
}

function slopeRoof(name: string, slope: number, index: number, top: number, x: Scale, y: Scale): string[] {
  // From the left edge, or from where it enters through the bottom one, up to the highest level.
  const from = Math.max(x.low, y.low / slope);
  const [x1, y1] = [x.place(from), y.place(from * slope)];
  const [x2, y2] = [x.place(top / slope), y.place(top)];
  const angle = round((Math.atan2(y2 - y1, x2 - x1) * 180) / Math.PI);
  // Names stand apart along the slope, the first above its line and the next below.
  const at = { x: x1 + (x2 - x1) * 0.45, y: y1 + (y2 - y1) * 0.45 };
  const aside = index === 0 ? -6 : 14;
  return [
    roofLine(x1, y1, x2, y2),
    `<g transform="translate(${round(at.x)} ${round(at.y)}) rotate(${angle})">${text(0, aside, name, 'text-anchor="middle" font-size="11"')}</g>`,
  ];
}

function levelRoof(name: string, level: number, slope: number, x: Scale, y: Scale): string[] {
  const at = y.place(level);
  return [
    roofLine(x.place(level / slope), at, PLOT.right, at),
    text(PLOT.right, at - 5, name, 'text-anchor="end" font-size="11"'),
  ];
}

function roofLine(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="#222" stroke-width="1.5"/>`;
}

function shape(index: number, x: number, y: number, fill: string): string {
  const drawn = SHAPES[index % SHAPES.length]!;
  return `<g transform="translate(${round(x)} ${round(y)})" fill="${fill}" fill-opacity="0.85" stroke="#fff">${drawn}</g>`;
}

function key(labels: readonly string[]): string[] {
  const lineHeight = 17;
  const left = PLOT.right - 130;
  const first = PLOT.bottom - 10 - (labels.length - 1) * lineHeight;
  return labels.flatMap((label, index) => {
    const y = first + index * lineHeight;
    return [shape(index, left, y, "#666"), text(left + 14, y + 4, label, 'font-size="11"')];
  });
}
