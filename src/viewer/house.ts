import uPlot from "/app/uplot.js";
import type { LaneSnapshot, ServiceSnapshot } from "../gateway/generation.js";
import { create, element } from "./page.js";
import type { WireActor } from "./trace-source.js";

/** Points of the chart: two minutes at two a second. */
const MOST_POINTS = 240;
const SHOWN_SECONDS = 120;
const CHART_HEIGHT = 150;
/** Pixels that a time of day needs. */
const TICK = 80;

interface Before {
  readonly now: number;
  readonly service: ServiceSnapshot;
  readonly received: ReadonlyMap<string, number>;
}

/** Tiles, chart and tables: what the house is doing, from one look to the next. */
export class House {
  readonly #tiles = element("tiles", HTMLDivElement);
  readonly #lanes = element("lanes", HTMLTableSectionElement);
  readonly #mailboxes = element("mailboxes", HTMLTableSectionElement);
  readonly #points: [number[], number[], number[]] = [[], [], []];
  readonly #chart: uPlot;
  #before: Before | undefined;

  constructor() {
    const home = element("chart", HTMLDivElement);
    const ink = getComputedStyle(home).color;
    // Half transparent grey shows on light and dark ground.
    const grid = { stroke: "#88888830", width: 1 };
    const axis = { stroke: ink, grid, ticks: { show: false } };
    const time = {
      ...axis,
      space: TICK,
      values: (_: uPlot, seconds: number[]) =>
        seconds.map((at) => new Date(1000 * at).toLocaleTimeString([], { hour12: false })),
    };
    const share = { values: (_: uPlot, shares: number[]) => shares.map((of) => `${of}%`) };
    this.#chart = new uPlot(
      {
        width: home.clientWidth,
        height: CHART_HEIGHT,
        legend: { live: false },
        series: [
          {},
          {
            label: "output tokens/s",
            stroke: "#4c8dff",
            fill: "#4c8dff22",
            width: 2,
            points: { show: false },
          },
          { label: "KV in use, %", stroke: "#f2a33a", width: 2, scale: "%", points: { show: false } },
        ],
        axes: [time, axis, { ...axis, ...share, side: 1, scale: "%", grid: { show: false } }],
        scales: {
          x: { range: (_, __, last) => [last - SHOWN_SECONDS, last] },
          y: { range: (_, __, most) => [0, Math.max(10, most * 1.1)] },
          "%": { range: [0, 100] },
        },
      },
      this.#points,
      home,
    );
    new ResizeObserver(() => this.#chart.setSize({ width: home.clientWidth, height: CHART_HEIGHT })).observe(
      home,
    );
  }

  show(now: number, actors: readonly WireActor[], service: ServiceSnapshot): void {
    const before = this.#before;
    const seconds = before === undefined ? 0 : (now - before.now) / 1000;
    const rate = (after: number, earlier: number | undefined): number =>
      seconds > 0 && earlier !== undefined ? (after - earlier) / seconds : 0;
    const tokensPerSecond = rate(service.outputTokens, before?.service.outputTokens);
    const { kv } = service;
    const used = kv.totalBlocks === 0 ? 0 : (100 * kv.usedBlocks) / kv.totalBlocks;
    this.#plot(tokensPerSecond, used);
    this.#tile([
      ["Running", String(service.requestsRunning)],
      ["Waiting", String(service.requestsWaiting)],
      ["Output tokens/s", tokensPerSecond.toFixed(0)],
      ["KV blocks in use", `${kv.usedBlocks} / ${kv.totalBlocks}`],
      ["KV blocks cached", String(kv.cachedBlocks)],
      ["Drafts accepted", percent(service.acceptedTokens, service.draftTokens)],
    ]);
    this.#lanes.replaceChildren(
      ...service.lanes.map((lane) =>
        laneRow(
          lane,
          before?.service.lanes.find(({ name }) => name === lane.name),
          seconds,
        ),
      ),
    );
    this.#mailboxes.replaceChildren(
      ...actors.map((actor) => {
        const unread = Object.values(actor.mailbox).reduce((sum, bytes) => sum + bytes, 0);
        const messages = rate(actor.received, before?.received.get(actor.name));
        return row(actor.name, `${unread} B`, messages.toFixed(0), actor.state);
      }),
    );
    this.#before = { now, service, received: new Map(actors.map(({ name, received }) => [name, received])) };
  }

  #plot(tokensPerSecond: number, used: number): void {
    const [times, tokens, kv] = this.#points;
    times.push(Date.now() / 1000);
    tokens.push(tokensPerSecond);
    kv.push(used);
    for (const column of this.#points) column.splice(0, column.length - MOST_POINTS);
    this.#chart.setData(this.#points);
  }

  #tile(tiles: readonly (readonly [string, string])[]): void {
    this.#tiles.replaceChildren(
      ...tiles.map(([label, value]) =>
        create(
          "div",
          { className: "tile" },
          create("b", {}, value),
          create("span", { className: "quiet" }, label),
        ),
      ),
    );
  }
}

function laneRow(lane: LaneSnapshot, before: LaneSnapshot | undefined, seconds: number): HTMLTableRowElement {
  const load = before === undefined || seconds === 0 ? 0 : (lane.busyMs - before.busyMs) / 1000 / seconds;
  const meter = create("meter", { min: 0, max: 1, value: Math.min(1, load) });
  const cell = create("span", {}, meter, `${(100 * load).toFixed(0)}%`);
  return row(
    lane.name,
    cell,
    String(lane.rows),
    String(lane.queued),
    lane.role === "decode" ? lane.draftDepth.toFixed(1) : "–",
  );
}

function row(...cells: (Node | string)[]): HTMLTableRowElement {
  return create("tr", {}, ...cells.map((cell) => create("td", {}, cell)));
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "–" : `${((100 * part) / whole).toFixed(0)}%`;
}
