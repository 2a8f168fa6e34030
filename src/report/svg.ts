import { formatTick, linearScale, logScale } from "./axis.js";
import type { BarFigure, Figure, LineFigure } from "./figure.js";
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
  const parts = [...valueAxis(y, figure.valueLabel), ...numberAxis(x, figure.xLabel)];
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
