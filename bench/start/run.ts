import { spawn } from "node:child_process";
import { once } from "node:events";
import { request } from "node:http";
import { fileURLToPath } from "node:url";
import { BenchError } from "../bench-error.js";
import { runChild } from "../child.js";

/** One start, and the first token of a prompt after it. */
export interface Start {
  /** From the start of the process until it says that it is ready. */
  readonly readyMs: number;
  /** From then until the first token of the prompt. */
  readonly firstTokenMs: number;
  /** Processor time of all threads until it was ready. */
  readonly processorMs: number;
  readonly parts: readonly { readonly part: string; readonly ms: number }[];
}

const MAIN = fileURLToPath(new URL("../../bundle/main.js", import.meta.url));
const EMBEDDED = fileURLToPath(new URL("./embedded.js", import.meta.url));
/** A first start packs the weights; minutes mean something is wrong. */
const TIMEOUT_MS = 180_000;

/** Starts an instance in a process of its own. */
export async function startEmbedded(model: string, promptTokens: number): Promise<Start> {
  const output = await runChild(process.execPath, [EMBEDDED, model, String(promptTokens)], {
    timeoutMs: TIMEOUT_MS,
  });
  return JSON.parse(output) as Start;
}

/** Starts the server, without npm, and asks it by HTTP. */
export async function startServed(model: string, promptTokens: number): Promise<Start> {
  const begun = performance.now();
  const child = spawn(process.execPath, [MAIN, "serve", "--port", "0", "--timings", "--model", model], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const ended = once(child, "close");
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  try {
    let said = "";
    let url = "";
    let readyMs = Number.NaN;
    await new Promise<void>((resolve, reject) => {
      const listen = (text: string) => {
        said += text;
        const ready = /^(http:\S+) is ready/m.exec(said)?.[1];
        if (ready !== undefined && url === "") {
          url = ready;
          readyMs = performance.now() - begun;
        }
        if (url !== "" && /^Milliseconds from start: .*\n/m.test(said)) resolve();
      };
      child.stdout.setEncoding("utf8").on("data", listen);
      child.stderr.setEncoding("utf8").on("data", listen);
      child.once("close", () =>
        reject(new BenchError(`The server ended. Its last words:\n${said.trimEnd()}`)),
      );
    });
    const firstTokenMs = await firstToken(url, promptTokens);
    return { readyMs, firstTokenMs, ...timingsOf(said) };
  } finally {
    clearTimeout(timer);
    child.kill("SIGTERM");
    await ended;
  }
}

function timingsOf(said: string): Pick<Start, "parts" | "processorMs"> {
  const [, line = "", processorMs] =
    /^Milliseconds from start: (.*); processor time (\d+)$/m.exec(said) ?? [];
  const parts = line.split(", ").map((text) => {
    const at = text.lastIndexOf(" ");
    return { part: text.slice(0, at), ms: Number(text.slice(at + 1)) };
  });
  return { parts, processorMs: Number(processorMs) };
}

/** Milliseconds until the first bytes of a streamed answer to a prompt of so many token ids. */
async function firstToken(url: string, promptTokens: number): Promise<number> {
  const prompt = Array.from({ length: promptTokens }, (_, i) => 1000 + 37 * i);
  const body = JSON.stringify({ prompt, max_tokens: 1, temperature: 0, stream: true });
  const begun = performance.now();
  return new Promise((resolve, reject) => {
    const asked = request(`${url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", connection: "close" },
    });
    asked.on("response", (response) => {
      if (response.statusCode !== 200) reject(new BenchError(`The server answered ${response.statusCode}.`));
      response.once("data", () => resolve(performance.now() - begun));
      response.resume();
    });
    asked.on("error", reject);
    asked.end(body);
  });
}
