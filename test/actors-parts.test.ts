import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Audit, type Audited } from "../dist/actors/audit.js";
import { LiveRequest } from "../dist/actors/live-request.js";
import { ANY_PAIR } from "../dist/actors/messages.js";
import { copyPrompt, PromptRegion, readSampling, regionBytes } from "../dist/actors/prompt-region.js";
import { GREEDY, NO_SALT, type Sampling } from "../dist/engine/engine.js";
import type { DeliveredTokens, GenerationRequest } from "../dist/gateway/generation.js";

function requestOf(
  prompt: Uint32Array,
  maxTokens: number,
  sampling: Sampling,
  credit: number,
): GenerationRequest {
  return { prompt, maxTokens, sampling, class: "interactive", deadlineMs: 0, credit };
}

function liveOf(
  request: GenerationRequest,
  sent: number[],
): { readonly live: LiveRequest; readonly bytes: Uint8Array } {
  const { sampling, prompt, maxTokens } = request;
  const size = regionBytes(sampling.stopIds.length, sampling.logitBias.size, prompt.length, maxTokens);
  const bytes = new Uint8Array(new SharedArrayBuffer(size));
  const region = new PromptRegion({ slab: 0, offset: 0, bytes: size }, bytes, prompt, sampling);
  const sink = {
    tokens: (delivered: DeliveredTokens) => {
      expect(delivered.index).toBe(sent.length);
      expect(delivered.logprobs.length).toBe(delivered.ids.length);
      expect(delivered.topIds.length).toBe(2 * delivered.ids.length);
      delivered.ids.forEach((id, i) => {
        expect(delivered.topIds[2 * i]).toBe(id);
        sent.push(id);
      });
    },
    done: () => {},
    failed: () => {},
  };
  return { live: new LiveRequest(1, request, sink, region, NO_SALT, 0), bytes };
}

/** Tokens `from` to `to` of an output whose token at index i is 100 + i. */
function delivery(from: number, to: number): DeliveredTokens {
  const ids = Uint32Array.from({ length: to - from }, (_, i) => 100 + from + i);
  return {
    index: from,
    ids,
    logprobs: new Float32Array(ids.length),
    topIds: Uint32Array.from({ length: 2 * ids.length }, (_, i) => ids[i >> 1]! + (i & 1)),
    topLogprobs: new Float32Array(2 * ids.length),
  };
}

describe("a request's region of the slab", () => {
  test("gives the lanes the prompt, the output received and the sampling that went in", () => {
    const ids = fc.array(fc.nat(50_000), { minLength: 1, maxLength: 30 });
    const bias = fc.array(fc.tuple(fc.nat(50_000), fc.float({ noNaN: true })), { maxLength: 5 });
    const stops = fc.array(fc.nat(50_000), { maxLength: 5 });
    fc.assert(
      fc.property(ids, stops, bias, fc.nat(10), (prompt, stopIds, biases, received) => {
        const sampling = {
          ...GREEDY,
          stopIds,
          logitBias: new Map(biases),
          seed: 2 ** 52 + 1,
          temperature: 0.7,
        };
        const request = requestOf(Uint32Array.from(prompt), 10, sampling, Number.POSITIVE_INFINITY);
        const { live, bytes } = liveOf(request, []);
        if (received > 0) live.receive(delivery(0, received), 0);

        const journey = live.journey();
        expect([...copyPrompt(journey, bytes)]).toEqual([...prompt, ...delivery(0, received).ids]);
        expect(journey.outputFrom).toBe(prompt.length);
        expect(readSampling(journey, bytes)).toEqual(sampling);
      }),
    );
  });
});

describe("what a reader is given", () => {
  const deliveries = fc.array(fc.tuple(fc.nat(12), fc.integer({ min: 1, max: 6 })), { maxLength: 30 });
  const steps = fc.array(fc.oneof(fc.nat(5)), { maxLength: 30 });

  test("is every token once, in order, never more than its credit, whatever is delivered again", () => {
    fc.assert(
      fc.property(deliveries, steps, (repeats, grants) => {
        const sent: number[] = [];
        const { live } = liveOf(requestOf(Uint32Array.of(1), 100, { ...GREEDY, logprobs: 2 }, 2), sent);
        let credit = 2;
        repeats.forEach(([back, count], i) => {
          const from = Math.max(0, live.received - back);
          expect(live.receive(delivery(from, Math.min(100, from + count)), i)).toBe(true);
          credit += grants[i] ?? 0;
          live.creditUpTo = credit;
          live.flush(i);
          expect(sent.length).toBe(Math.min(credit, live.received));
        });
        expect(sent).toEqual(Array.from(sent, (_, i) => 100 + i));
      }),
    );
  });

  test("a gap is noticed, and nothing of it is taken", () => {
    const sent: number[] = [];
    const { live } = liveOf(requestOf(Uint32Array.of(1), 10, { ...GREEDY, logprobs: 2 }, 100), sent);
    live.receive(delivery(0, 2), 0);
    expect(live.receive(delivery(3, 4), 0)).toBe(false);
    expect(live.received).toBe(2);
  });
});

describe("the audit", () => {
  interface Case {
    readonly running: Map<number, Audited>;
    readonly audit: Audit<Audited>;
    readonly lost: number[];
  }
  function start(pairs: number, requests: readonly (readonly [number, number])[], gone: number[] = []): Case {
    const running = new Map<number, Audited>();
    const lost: number[] = [];
    const bits = Uint8Array.from({ length: pairs }, (_, i) => gone[i] ?? 0);
    const audit = new Audit(running, bits, {
      held: () => {},
      lost: ({ request }) => {
        lost.push(request);
        running.delete(request);
      },
    });
    for (const [request, pair] of requests) {
      running.set(request, {
        request,
        attempt: 0,
        pair,
        auditFrom: audit.serial + 1,
        seenIn: 0,
        missedIn: 0,
      });
    }
    return { running, audit, lost };
  }
  function answers(
    audit: Audit<Audited>,
    serial: number,
    pair: number,
    role: number,
    held: number[],
  ): boolean {
    const requests = Uint32Array.from(held);
    const attempts = new Uint32Array(held.length);
    return audit.answer({ type: "audited", generation: 0, serial, role, pair, requests, attempts });
  }

  test("finds lost what two rounds miss, and only then", () => {
    const { audit, lost } = start(1, [
      [1, 0],
      [2, 0],
    ]);
    const first = audit.begin();
    expect(answers(audit, first, 0, 0, [])).toBe(false);
    expect(answers(audit, first, 0, 1, [1])).toBe(true);
    expect(lost).toEqual([]);
    const second = audit.begin();
    answers(audit, second, 0, 0, [1]);
    answers(audit, second, 0, 1, []);
    expect(lost).toEqual([2]);
  });

  test("does not judge what was sent after the question, nor by answers to an older one", () => {
    const { audit, lost, running } = start(1, []);
    const first = audit.begin();
    running.set(9, { request: 9, attempt: 0, pair: 0, auditFrom: first + 1, seenIn: 0, missedIn: 0 });
    answers(audit, first, 0, 0, []);
    expect(answers(audit, first, 0, 1, [])).toBe(false);
    const second = audit.begin();
    answers(audit, first, 0, 0, []);
    answers(audit, first, 0, 1, []);
    expect(running.get(9)?.missedIn).toBe(0);
    answers(audit, second, 0, 0, []);
    expect(answers(audit, second, 0, 1, [])).toBe(true);
    expect(lost).toEqual([]);
  });

  test("waits for all pairs with a request whose pair is not known, and not at all for lanes gone for good", () => {
    const { audit, running } = start(
      3,
      [
        [1, ANY_PAIR],
        [2, 0],
      ],
      [0, 0, 3],
    );
    const serial = audit.begin();
    answers(audit, serial, 0, 0, []);
    expect(answers(audit, serial, 0, 1, [2])).toBe(false);
    expect(running.get(1)?.missedIn).toBe(0);
    answers(audit, serial, 1, 0, []);
    expect(answers(audit, serial, 1, 1, [])).toBe(true);
    expect(running.get(1)?.missedIn).toBe(serial);
    expect(running.get(2)?.missedIn).toBe(0);
  });
});
