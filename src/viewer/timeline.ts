import { decisionOf, isNote } from "./decision.js";
import { create, element } from "./page.js";
import type { WireSpan } from "./trace-source.js";

const ROW = 26;
const AXIS = 20;
const LABEL = 84;
/** Width that a tick's text needs. */
const TICK = 64;
/** Spans come ten times a second; drawing more often would take time from a model on the same processor. */
const DRAW_MS = 100;
/** Spans kept: a window of 10 s of a busy server. */
const MOST_SPANS = 30_000;
/** Told apart with common colour-vision deficiencies, on light and dark ground. */
const COLOURS = ["#4c8dff", "#f2a33a", "#2fb37c", "#d663b4", "#8f7bea", "#e0594f", "#3fb8c9", "#a5a33c"];

/** Draws each actor's spans on a line of its own; time runs to the right. */
export class Timeline {
  readonly #canvas = element("timeline", HTMLCanvasElement);
  readonly #legend = element("legend", HTMLSpanElement);
  readonly #caption = element("span", HTMLParagraphElement);
  readonly #window = element("window", HTMLSelectElement);
  readonly #colours = new Map<string, string>();
  #actors: string[] = [];
  #spans: WireSpan[] = [];
  /** The server's clock minus the page's. */
  #offset = 0;
  #paused: number | undefined;

  constructor() {
    const pause = element("pause", HTMLButtonElement);
    pause.addEventListener("click", () => {
      this.#paused = this.#paused === undefined ? this.#now() : undefined;
      pause.textContent = this.#paused === undefined ? "Pause" : "Go on";
    });
    for (const type of ["pointermove", "pointerdown"] as const) {
      this.#canvas.addEventListener(type, ({ offsetX, offsetY }) => this.#point(offsetX, offsetY));
    }
    setInterval(() => {
      if (!document.hidden) this.#draw();
    }, DRAW_MS);
  }

  add(now: number, spans: readonly WireSpan[]): void {
    this.#offset = now - performance.now();
    if (this.#paused !== undefined) return;
    for (const span of spans) {
      if (!this.#actors.includes(span[0])) this.setActors([...this.#actors, span[0]]);
      this.#colour(span[1]);
      this.#spans.push(span);
    }
    if (this.#spans.length > MOST_SPANS) this.#spans = this.#spans.slice(-MOST_SPANS);
  }

  setActors(names: readonly string[]): void {
    this.#actors = [...new Set([...names, ...this.#actors])];
  }

  #now(): number {
    return this.#paused ?? performance.now() + this.#offset;
  }

  #colour(name: string): string {
    const known = this.#colours.get(name);
    if (known !== undefined) return known;
    const colour = COLOURS[this.#colours.size % COLOURS.length]!;
    this.#colours.set(name, colour);
    const swatch = create("i");
    swatch.style.background = colour;
    this.#legend.append(create("span", {}, swatch, name));
    return colour;
  }

  #scale(): { readonly from: number; readonly perMs: number; readonly width: number } {
    const span = Number(this.#window.value);
    const width = this.#canvas.clientWidth;
    return { from: this.#now() - span, perMs: (width - LABEL) / span, width };
  }

  #draw(): void {
    const { from, perMs, width } = this.#scale();
    const height = this.#actors.length * ROW + AXIS;
    const ratio = devicePixelRatio;
    if (
      this.#canvas.width !== Math.round(width * ratio) ||
      this.#canvas.height !== Math.round(height * ratio)
    ) {
      this.#canvas.width = Math.round(width * ratio);
      this.#canvas.height = Math.round(height * ratio);
      this.#canvas.style.height = `${height}px`;
    }
    const pen = this.#canvas.getContext("2d");
    if (pen === null) return;
    const style = getComputedStyle(this.#canvas);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = `12px ${style.fontFamily}`;
    pen.textBaseline = "middle";
    this.#drawGrid(pen, style.color, from, perMs, width, height);
    // Work goes over notes, or a pixel that stands for several steps would show the notes alone.
    for (const span of this.#spans) if (isNote(span)) this.#drawSpan(pen, span, from, perMs);
    for (const span of this.#spans) if (!isNote(span)) this.#drawSpan(pen, span, from, perMs);
  }

  #drawSpan(pen: CanvasRenderingContext2D, span: WireSpan, from: number, perMs: number): void {
    const [actor, name, start, end] = span;
    if (end < from) return;
    const x = LABEL + Math.max(0, (start - from) * perMs);
    const right = LABEL + (end - from) * perMs;
    pen.fillStyle = this.#colour(name);
    pen.fillRect(x, this.#actors.indexOf(actor) * ROW + 5, Math.max(1, right - x), ROW - 10);
  }

  #drawGrid(
    pen: CanvasRenderingContext2D,
    ink: string,
    from: number,
    perMs: number,
    width: number,
    height: number,
  ): void {
    pen.fillStyle = ink;
    pen.strokeStyle = ink;
    this.#actors.forEach((name, row) => {
      pen.globalAlpha = 1;
      pen.fillText(name, 0, row * ROW + ROW / 2, LABEL - 8);
      pen.globalAlpha = 0.12;
      pen.strokeRect(LABEL, row * ROW + ROW - 0.5, width, 0);
    });
    const ticks = Math.max(1, Math.min(5, Math.floor((width - LABEL) / TICK)));
    const step = Number(this.#window.value) / ticks;
    for (let tick = Math.ceil(from / step) * step; (tick - from) * perMs < width - LABEL; tick += step) {
      const x = LABEL + (tick - from) * perMs;
      pen.globalAlpha = 0.12;
      pen.strokeRect(x, 0, 0, height - AXIS);
      pen.globalAlpha = x + TICK > width ? 0 : 0.6;
      pen.fillText(`${(tick / 1000).toFixed(1)} s`, x + 3, height - AXIS / 2);
    }
    pen.globalAlpha = 1;
  }

  #point(x: number, y: number): void {
    const { from, perMs } = this.#scale();
    const at = from + (x - LABEL) / perMs;
    // Two pixels of slack: many spans are thinner than a pointer.
    const slack = 2 / perMs;
    const actor = this.#actors[Math.floor(y / ROW)];
    const near = ([name, , start, end]: WireSpan): boolean =>
      name === actor && start - slack <= at && at <= end + slack;
    // A step goes before the notes beside it, which it tells of.
    const hit =
      this.#spans.findLast((span) => !isNote(span) && near(span)) ??
      this.#spans.findLast((span) => near(span));
    if (hit === undefined) return;
    const [, name, start, end, request, value] = hit;
    const about = request === 0 ? "" : ` · request ${request}`;
    const decision = decisionOf(this.#spans, hit);
    this.#caption.textContent =
      `${actor} · ${name} · ${(end - start).toFixed(3)} ms${about} · value ${value}` +
      (decision === "" ? "" : `; decided: ${decision}`);
  }
}
