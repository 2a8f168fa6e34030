import type { ServiceSnapshot } from "../gateway/generation.js";

/** A span as /v1/trace writes it: actor, name, start, end, request, value; times in the server's milliseconds. */
export type WireSpan = readonly [
  actor: string,
  name: string,
  start: number,
  end: number,
  request: number,
  value: number,
];

export interface WireActor {
  readonly name: string;
  readonly thread: string;
  readonly state: string;
  readonly received: number;
  readonly mailbox: Readonly<Record<string, number>>;
}

export interface TraceListener {
  spans(now: number, spans: readonly WireSpan[]): void;
  state(now: number, actors: readonly WireActor[], service: ServiceSnapshot): void;
}

/** Reads the server-sent events of /v1/trace until they end. EventSource could not send a key. */
export async function followTrace(key: string | undefined, listener: TraceListener): Promise<number> {
  const response = await fetch(
    "/v1/trace",
    key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } },
  );
  if (!response.ok || response.body === null) return response.status;
  let rest = "";
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + text).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) dispatch(event, listener);
  }
  return response.status;
}

function dispatch(event: string, listener: TraceListener): void {
  const match = /^event: (\w+)\ndata: (.*)$/s.exec(event);
  if (match === null) return;
  const data = JSON.parse(match[2]!) as {
    readonly now: number;
    readonly spans: readonly WireSpan[];
    readonly actors: readonly WireActor[];
    readonly service: ServiceSnapshot;
  };
  if (match[1] === "spans") listener.spans(data.now, data.spans);
  else if (match[1] === "state") listener.state(data.now, data.actors, data.service);
}
