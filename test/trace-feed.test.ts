import { afterAll, beforeAll, expect, test } from "vitest";
import type { RunningServer } from "../dist/index.js";
import { chatBody, startTestServer } from "./serving.js";

/** /v1/trace: what a watcher sees of the actors while a request passes through them. */

type Span = readonly [
  actor: string,
  name: string,
  start: number,
  end: number,
  request: number,
  value: number,
];

interface State {
  readonly actors: readonly { readonly name: string; readonly thread: string; readonly mailbox: object }[];
  readonly service: { readonly kv: { readonly totalBlocks: number }; readonly lanes: readonly object[] };
}

let server: RunningServer;

beforeAll(async () => {
  server = await startTestServer();
});

afterAll(() => server.close(0));

/** Events of the feed until `enough` says so. */
async function watch(
  enough: (spans: readonly Span[], state: State | undefined) => boolean,
  begin: () => void,
) {
  const leave = new AbortController();
  const response = await fetch(`${server.url}/v1/trace`, { signal: leave.signal });
  const spans: Span[] = [];
  let state: State | undefined;
  let rest = "";
  const decoder = new TextDecoder();
  begin();
  for await (const bytes of response.body!) {
    const events = (rest + decoder.decode(bytes, { stream: true })).split("\n\n");
    rest = events.pop()!;
    for (const event of events) {
      const [, type, json] = /^event: (\w+)\ndata: (.*)$/s.exec(event)!;
      const data = JSON.parse(json!);
      if (type === "spans") spans.push(...data.spans);
      else state = data;
    }
    if (enough(spans, state)) break;
  }
  leave.abort();
  return { spans, state };
}

test("a request is prefilled by one actor and decoded by another, on threads of their own", async () => {
  const named = (spans: readonly Span[], actor: string, name: string): Span[] =>
    spans.filter(([who, what]) => who === actor && what === name);
  const begin = (): void => {
    const body = JSON.stringify(chatBody({ max_tokens: 6, ignore_eos: true }));
    void fetch(`${server.url}/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body,
    }).then((response) => response.text());
  };
  const { spans, state } = await watch(
    (seen, known) => known !== undefined && named(seen, "decode.0", "decode").length > 0,
    begin,
  );
  const prefill = named(spans, "prefill.0", "prefill")[0]!;
  const decode = named(spans, "decode.0", "decode")[0]!;
  const [start, end] = [2, 3] as const;
  expect(prefill[end]).toBeGreaterThanOrEqual(prefill[start]);
  expect(decode[start]).toBeGreaterThanOrEqual(prefill[start]);
  const threads = new Map(state!.actors.map(({ name, thread }) => [name, thread]));
  expect(threads.get("prefill.0")).toBe("worker");
  expect(threads.get("decode.0")).toBe("worker");
  expect(threads.get("gateway")).toBe("main");
  expect(state!.service.kv.totalBlocks).toBeGreaterThan(0);
});

test("several watchers see the same actors, each until it leaves", async () => {
  const named = (_: readonly Span[], state: State | undefined): boolean => state !== undefined;
  const [one, other] = await Promise.all([watch(named, () => {}), watch(named, () => {})]);
  const names = one.state!.actors.map(({ name }) => name);
  expect(names).toContain("scheduler");
  expect(other.state!.actors.map(({ name }) => name)).toEqual(names);
  const again = await watch(named, () => {});
  expect(again.state!.actors.map(({ name }) => name)).toEqual(names);
});
