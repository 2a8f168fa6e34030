import { axisTicks, formatTick, linearScale, logScale, type Scale } from "./axis.js";
import type { BarFigure, Figure, LineFigure } from "./figure.js";

/** Draws figures as self-contained SVG: readable on white and on dark pages (it brings its own background). */

const WIDTH = 760;
const HEIGHT = 420;
const PLOT = { left: 72, right: WIDTH - 20, top: 72, bottom: HEIGHT - 56 };
/** Told apart in grey and by the colour-blind too (Okabe and Ito's palette). */
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

export function drawFigure(figure: Figure): string {
  const body = figure.kind === "bars" ? drawBars(figure) : drawLines(figure);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(WIDTH / 2, 24, figure.title, 'text-anchor="middle" font-size="16" font-weight="600"'),
    ...legend(figure.series.map((series) => series.name)),
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

function drawBars(figure: BarFigure): string[] {
  const values = figure.series.flatMap((series) => series.values).filter((value) => value !== null);
  const y = linearScale(0, Math.max(0, ...values), PLOT.bottom, PLOT.top);
  const groupWidth = (PLOT.right - PLOT.left) / Math.max(1, figure.groups.length);
  const barWidth = (groupWidth * 0.8) / Math.max(1, figure.series.length);
  const parts = valueAxis(y, figure.valueLabel);
  for (const [group, name] of figure.groups.entries()) {
    const left = PLOT.left + group * groupWidth + groupWidth * 0.1;
    parts.push(text(left + groupWidth * 0.4, PLOT.bottom + 18, name, 'text-anchor="middle"'));
    for (const [index, series] of figure.series.entries()) {
      const value = series.values[group] ?? null;
      if (value === null) continue;
      const x = left + index * barWidth;
      const top = y.place(value);
      parts.push(
        `<rect x="${round(x)}" y="${round(top)}" width="${round(barWidth * 0.92)}" height="${round(PLOT.bottom - top)}" fill="${colour(index)}"/>`,
        text(x + barWidth * 0.46, top - 4, formatTick(value), 'text-anchor="middle" font-size="10"'),
      );
    }
  }
  return parts;
}

function drawLines(figure: LineFigure): string[] {
  const points = figure.series.flatMap((series) => series.points);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const scale = figure.logarithmic ? logScale : linearScale;
  const x = scale(Math.min(...xs), Math.max(...xs), PLOT.left, PLOT.right);
  const y = scale(figure.logarithmic ? Math.min(...ys) : 0, Math.max(...ys), PLOT.bottom, PLOT.top);
  const parts = valueAxis(y, figure.valueLabel);
  for (const tick of axisTicks(x)) {
    const at = round(x.place(tick));
    parts.push(
      `<line x1="${at}" y1="${PLOT.bottom}" x2="${at}" y2="${PLOT.bottom + 5}" stroke="#222"/>`,
      text(at, PLOT.bottom + 18, formatTick(tick), 'text-anchor="middle"'),
    );
  }
  parts.push(text((PLOT.left + PLOT.right) / 2, HEIGHT - 14, figure.xLabel, 'text-anchor="middle"'));
  for (const [index, series] of figure.series.entries()) {
    const path = series.points.map((point) => `${round(x.place(point[0]))},${round(y.place(point[1]))}`);
    parts.push(
      `<polyline points="${path.join(" ")}" fill="none" stroke="${colour(index)}" stroke-width="2"/>`,
      ...path.map(
        (at) => `<circle cx="${at.split(",")[0]}" cy="${at.split(",")[1]}" r="3" fill="${colour(index)}"/>`,
      ),
    );
  }
  return parts;
}

function valueAxis(y: Scale, label: string): string[] {
  const middle = (PLOT.top + PLOT.bottom) / 2;
  const parts = [text(18, middle, label, `text-anchor="middle" transform="rotate(-90 18 ${middle})"`)];
  for (const tick of axisTicks(y)) {
    const at = round(y.place(tick));
    parts.push(
      `<line x1="${PLOT.left}" y1="${at}" x2="${PLOT.right}" y2="${at}" stroke="#ddd"/>`,
      text(PLOT.left - 8, at + 4, formatTick(tick), 'text-anchor="end"'),
    );
  }
  parts.push(
    `<line x1="${PLOT.left}" y1="${PLOT.bottom}" x2="${PLOT.right}" y2="${PLOT.bottom}" stroke="#222"/>`,
  );
  return parts;
}

function legend(names: readonly string[]): string[] {
  let x = PLOT.left;
  return names.flatMap((name, index) => {
    const parts = [
      `<rect x="${x}" y="40" width="12" height="12" fill="${colour(index)}"/>`,
      text(x + 17, 50, name, ""),
    ];
    // No font metrics here: 7 units a character is wide enough for 12-unit sans-serif.
    x += 17 + name.length * 7 + 18;
    return parts;
  });
}

function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escapeXml(content)}</text>`;
}

function escapeXml(content: string): string {
  return content.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

function colour(index: number): string {
  return COLOURS[index % COLOURS.length]!;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
