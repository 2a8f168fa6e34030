import OpenAI from "openai";
import { configSchema, type RunningServer, startServer } from "../dist/index.js";

/** A real server with the real model, on a free port, for tests of the doors. */

export function startTestServer(config: Record<string, unknown> = {}): Promise<RunningServer> {
  const server = { port: 0, ...(config.server as object | undefined) };
  return startServer(configSchema.parse({ ...config, server }));
}

/** Retries would hide what the server answers. */
export function openAi({ url }: RunningServer, apiKey = "none"): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
}

export const MODEL = "smollm2-135m-instruct";

export function chatBody(more: Record<string, unknown> = {}): Record<string, unknown> {
  return { messages: [{ role: "user", content: "Count to five." }], max_tokens: 4, temperature: 0, ...more };
}

export interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly param: string | null;
  readonly message: string;
  readonly details: Readonly<Record<string, number | string>>;
}

/** Posts `body` as it is (or as JSON) and reads the error. */
export async function refusal(
  url: string,
  body: unknown,
  path = "/v1/chat/completions",
  headers: Record<string, string> = {},
): Promise<Refusal> {
  const raw = typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream;
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: raw ? (body as string) : JSON.stringify(body),
    ...(body instanceof ReadableStream ? { duplex: "half" } : {}),
  } as RequestInit);
  const { error } = (await response.json()) as { error: Omit<Refusal, "status"> };
  return { ...error, status: response.status };
}

/** The sum of a metric's series. */
export async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split("\n").filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  if (lines.length === 0) throw new Error(`No metric ${name}.`);
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}

/** KV blocks by what they are for. */
export async function blocks(
  url: string,
): Promise<{ total: number; free: number; cached: number; used: number }> {
  const [total, free, cached, used] = await Promise.all(
    ["total", "free", "cached", "used"].map((kind) => metric(url, `streamserve_kv_blocks_${kind}`)),
  );
  return { total: total!, free: free!, cached: cached!, used: used! };
}
