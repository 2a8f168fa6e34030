import fc from "fast-check";
import { expect, test } from "vitest";
import { measureStream } from "../dist/bench/load/measure.js";
import { type Piece, readEvents } from "../dist/bench/load/sse.js";

/** Cuts a stream's bytes at the given places; piece i arrives at time i. */
function cut(text: string, places: readonly number[]): Piece[] {
  const bytes = Buffer.from(text);
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b);
  return [0, ...ends].map((from, index) => ({
    atMs: index,
    bytes: bytes.subarray(from, [...ends, bytes.length][index]),
  }));
}

const cuts = fc.array(fc.nat(), { maxLength: 30 });
const lineEnd = fc.constantFrom("\n", "\r\n", "\r");

test("events are the same however the bytes are cut, whatever ends the lines", () => {
  const payload = fc.string({ unit: "grapheme" }).map((text) => JSON.stringify(text));
  fc.assert(
    fc.property(fc.array(payload, { maxLength: 8 }), lineEnd, cuts, (payloads, end, places) => {
      const stream = payloads.map((data) => `: ping${end}event: x${end}data: ${data}${end}${end}`).join("");
      expect(readEvents(cut(`\ufeff${stream}`, places)).map((event) => event.data)).toEqual(payloads);
    }),
  );
});

test("an event is stamped with the arrival of the byte that completes it", () => {
  const events = readEvents([
    { atMs: 1, bytes: Buffer.from("data: a\n") },
    { atMs: 2, bytes: Buffer.from("\ndata: b\n\nda") },
    { atMs: 3, bytes: Buffer.from("ta:c\ndata\n\ndata: lost\n") },
  ]);
  expect(events).toEqual([
    { atMs: 2, data: "a" },
    { atMs: 2, data: "b" },
    { atMs: 3, data: "c\n" },
  ]);
});

test("any bytes are read without failing", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (parts) => {
      const outcome = measureStream(
        parts.map((bytes, atMs) => ({ atMs, bytes })),
        0,
        parts.length,
      );
      expect(outcome.ok).toBe(false);
    }),
  );
});

const event = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`;
const textEvent = (content: string) => event({ choices: [{ delta: { content } }] });
const usageEvent = (prompt: number, completion: number) =>
  event({ choices: [], usage: { prompt_tokens: prompt, completion_tokens: completion } });

/** A stream whose text events arrive at the given times. */
function arriving(times: readonly number[], tokens: number): Piece[] {
  const at = (atMs: number, text: string) => ({ atMs, bytes: Buffer.from(text) });
  const endMs = times[times.length - 1]!;
  return [
    at(0, event({ choices: [{ delta: { role: "assistant", content: "" } }] })),
    ...times.map((time) => at(time, textEvent("x"))),
    at(endMs, usageEvent(7, tokens)),
    at(endMs, "data: [DONE]\n\n"),
  ];
}

test("time per token counts tokens by usage, not by events", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 30 }),
      fc.integer({ min: 1, max: 16 }),
      fc.integer({ min: 0, max: 500 }),
      (gaps, tokensAnEvent, dueMs) => {
        let now = 1000;
        const times = gaps.map((gap) => {
          now += gap;
          return now;
        });
        const tokens = times.length * tokensAnEvent;
        const outcome = measureStream(arriving(times, tokens), dueMs, now + 5);
        if (!outcome.ok) throw new Error(outcome.message);
        expect(outcome.ttftMs).toBe(times[0]! - dueMs);
        expect(outcome.latencyMs).toBe(now + 5 - dueMs);
        expect(outcome.longestGapMs).toBe(Math.max(0, ...gaps.slice(1)));
        expect(outcome.events).toBe(times.length);
        expect(outcome.promptTokens).toBe(7);
        if (tokens === 1) expect(outcome.tpotMs).toBeNaN();
        else expect(outcome.tpotMs * (tokens - 1)).toBeCloseTo(now - times[0]!, 6);
      },
    ),
  );
});

test.each([
  ["stream_cut", textEvent("x") + usageEvent(1, 1)],
  ["no_usage", `${textEvent("x")}data: [DONE]\n\n`],
  ["no_text", `${usageEvent(1, 1)}data: [DONE]\n\n`],
  ["bad_chunk", `data: {"choices":\n\n`],
  ["stream kv_exhausted", textEvent("x") + event({ error: { code: "kv_exhausted", message: "No blocks." } })],
])("a stream that can't be measured is a failure with a code: %s", (code, stream) => {
  const outcome = measureStream([{ atMs: 1, bytes: Buffer.from(stream) }], 0, 2);
  expect(outcome).toMatchObject({ ok: false, code });
});
