import type { Scale } from "./axis.js";
import { linearScale, logScale } from "./axis.js";
import { drawBars } from "./bars-svg.js";
import type { Figure, LineFigure, Mark } from "./figure.js";
import { drawRoofline } from "./roofline-svg.js";
import { colour, HEIGHT, legend, numberAxis, PLOT, round, text, valueAxis, WIDTH } from "./svg-parts.js";

/** Draws figures as self-contained SVG: readable on white and on dark pages (it brings its own background). */

export function drawFigure(figure: Figure): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="12" fill="#222">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(WIDTH / 2, 24, figure.title, 'text-anchor="middle" font-size="16" font-weight="600"'),
    ...legend(figure.series.map((series) => series.name)),
    ...drawBody(figure),
    "</svg>",
    "",
  ].join("\n");
}

function drawBody(figure: Figure): string[] {
  switch (figure.kind) {
    case "bars":
      return drawBars(figure);
    case "lines":
      return drawLines(figure);
    case "roofline":
      return drawRoofline(figure);
  }
}

/** Height of a mark's label, and how many stand below each other before they begin at the top again. */
const MARK_LINE = 14;
const MARK_LINES = 6;

function drawLines(figure: LineFigure): string[] {
  const points = figure.series.flatMap((series) => series.points);
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const scale = figure.logarithmic ? logScale : linearScale;
  const x = scale(figure.xFrom ?? Math.min(...xs), Math.max(...xs), PLOT.left, PLOT.right);
  const y = scale(figure.logarithmic ? Math.min(...ys) : 0, Math.max(...ys), PLOT.bottom, PLOT.top);
  const parts = [
    ...drawMarks(figure.marks ?? [], x),
    ...valueAxis(y, figure.valueLabel),
    ...numberAxis(x, figure.xLabel),
  ];
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

/** Labels one below the other: marks may overlap. Those that end far right are written to the left of their end. */
function drawMarks(marks: readonly Mark[], x: Scale): string[] {
  return marks.flatMap(({ label, from, to }, index) => {
    const [left, right] = [from, to].map((value) =>
      Math.min(PLOT.right, Math.max(PLOT.left, x.place(value))),
    ) as [number, number];
    const above = PLOT.top + MARK_LINE * (1 + (index % MARK_LINES));
    const onTheLeft = left > (PLOT.left + PLOT.right) / 2;
    return [
      `<rect x="${round(left)}" y="${PLOT.top}" width="${round(Math.max(1.5, right - left))}" height="${PLOT.bottom - PLOT.top}" fill="#d55e00" fill-opacity="0.12"/>`,
      `<line x1="${round(left)}" y1="${PLOT.top}" x2="${round(left)}" y2="${PLOT.bottom}" stroke="#d55e00" stroke-dasharray="4 3"/>`,
      text(
        onTheLeft ? left - 5 : left + 5,
        above,
        label,
        `fill="#a34700" text-anchor="${onTheLeft ? "end" : "start"}"`,
      ),
    ];
  });
}
