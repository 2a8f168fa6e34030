import { axisTicks, formatTick, type Scale } from "./axis.js";

/** What all drawings share: the sheet, its colours, and text. Positions are in the sheet's units. */

export const WIDTH = 760;
export const HEIGHT = 420;
export const PLOT = { left: 72, right: WIDTH - 20, top: 72, bottom: HEIGHT - 56 };
/** Told apart in grey and by the colour-blind too (Okabe and Ito's palette). */
export const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];

export function legend(names: readonly string[]): string[] {
  let x = PLOT.left;
  let y = 40;
  return names.flatMap((name, index) => {
    // No font metrics here: 7 units a character is wide enough for 12-unit sans-serif.
    const width = 17 + name.length * 7 + 18;
    if (x + width > WIDTH && x > PLOT.left) {
      x = PLOT.left;
      y += 16;
    }
    const parts = [
      `<rect x="${x}" y="${y}" width="12" height="12" fill="${colour(index)}"/>`,
      text(x + 17, y + 10, name, ""),
    ];
    x += width;
    return parts;
  });
}

export function text(x: number, y: number, content: string, attributes: string): string {
  return `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escapeXml(content)}</text>`;
}

function escapeXml(content: string): string {
  return content.replace(/[<>&"']/g, (character) => `&#${character.charCodeAt(0)};`);
}

export function colour(index: number): string {
  return COLOURS[index % COLOURS.length]!;
}

export function round(value: number): number {
  return Math.round(value * 100) / 100;
}

export function valueAxis(y: Scale, label: string): string[] {
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

export function numberAxis(x: Scale, label: string): string[] {
  const parts = [text((PLOT.left + PLOT.right) / 2, HEIGHT - 14, label, 'text-anchor="middle"')];
  for (const tick of axisTicks(x)) {
    const at = round(x.place(tick));
    parts.push(
      `<line x1="${at}" y1="${PLOT.bottom}" x2="${at}" y2="${PLOT.bottom + 5}" stroke="#222"/>`,
      text(at, PLOT.bottom + 18, formatTick(tick), 'text-anchor="middle"'),
    );
  }
  return parts;
}
