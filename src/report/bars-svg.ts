import { formatTick, linearScale, logScale, type Scale } from "./axis.js";
import type { BarFigure } from "./figure.js";
import { colour, PLOT, round, text, valueAxis } from "./svg-parts.js";

/** Groups of bars with their values written at their ends: upright where a bar is too narrow for its number. */

const LABEL_SIZE = 10;
/** No font metrics here: so wide is a digit of that size. */
const DIGIT = 6;
/** Axes go on beyond the farthest end by these factors, as room for the numbers; ratios have bars at both ends. */
const ROOM = 1.12;
const RATIO_ROOM = 1.35;

export function drawBars(figure: BarFigure): string[] {
  const y = scaleOf(figure);
  const base = y.place(figure.ratios ? 1 : 0);
  const groupWidth = (PLOT.right - PLOT.left) / Math.max(1, figure.groups.length);
  const barWidth = (groupWidth * 0.8) / Math.max(1, figure.series.length);
  const parts = valueAxis(y, figure.valueLabel);
  for (const [group, name] of figure.groups.entries()) {
    const left = PLOT.left + group * groupWidth + groupWidth * 0.1;
    parts.push(text(left + groupWidth * 0.4, PLOT.bottom + 18, name, 'text-anchor="middle"'));
    for (const [index, series] of figure.series.entries()) {
      const value = series.values[group] ?? null;
      if (value === null) continue;
      const end = y.place(value);
      const span = series.spans?.[group]?.map((one) => y.place(one)) ?? [];
      const x = left + index * barWidth;
      const middle = x + barWidth * 0.46;
      parts.push(
        `<rect x="${round(x)}" y="${round(Math.min(base, end))}" width="${round(barWidth * 0.92)}" height="${round(Math.abs(base - end))}" fill="${colour(index)}"/>`,
        ...spanLine(middle, span),
        label(formatTick(value), middle, barWidth, base, [end, ...span]),
      );
    }
  }
  if (figure.ratios) {
    parts.push(
      `<line x1="${PLOT.left}" y1="${round(base)}" x2="${PLOT.right}" y2="${round(base)}" stroke="#222"/>`,
    );
  }
  return parts;
}

function scaleOf({ ratios, series }: BarFigure): Scale {
  const ends = series
    .flatMap(({ values, spans = [] }) => [...values, ...spans.flatMap((span) => span ?? [])])
    .filter((value) => value !== null);
  return ratios
    ? logScale(Math.min(1, ...ends) / RATIO_ROOM, Math.max(1, ...ends) * RATIO_ROOM, PLOT.bottom, PLOT.top)
    : linearScale(0, Math.max(0, ...ends) * ROOM, PLOT.bottom, PLOT.top);
}

function spanLine(x: number, span: readonly number[]): string[] {
  const [from, to] = span;
  if (from === undefined || to === undefined) return [];
  return [
    `<line x1="${round(x)}" y1="${round(from)}" x2="${round(x)}" y2="${round(to)}" stroke="#222" stroke-opacity="0.6"/>`,
  ];
}

/** Beyond the bar's end and its span, on the side that the bar goes to. */
function label(content: string, x: number, barWidth: number, base: number, ends: readonly number[]): string {
  const up = ends[0]! <= base;
  const at = up ? Math.min(...ends) - 4 : Math.max(...ends) + 4;
  if (content.length * DIGIT <= barWidth) {
    const y = up ? at : at + LABEL_SIZE - 2;
    return text(x, y, content, `text-anchor="middle" font-size="${LABEL_SIZE}"`);
  }
  const anchor = up ? "start" : "end";
  const turned = `rotate(-90 ${round(x)} ${round(at)})`;
  return text(
    x,
    at,
    content,
    `text-anchor="${anchor}" dy="3.5" transform="${turned}" font-size="${LABEL_SIZE}"`,
  );
}
