import type { ChatTurn, Ending } from "../client/text-generation.js";
import { StreamServeClient } from "../client/websocket-client.js";
import { StreamServeError } from "../errors.js";
import { create, element } from "./page.js";

/** The chat: one WebSocket, opened when first needed and again after it was lost. */
export class Chat {
  readonly #key: () => string | undefined;
  readonly #messages = element("messages", HTMLOListElement);
  readonly #prompt = element("prompt", HTMLTextAreaElement);
  readonly #send = element("send", HTMLButtonElement);
  #turns: ChatTurn[] = [];
  #client: StreamServeClient | undefined;
  #stop: AbortController | undefined;

  constructor(key: () => string | undefined) {
    this.#key = key;
    element("composer", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#stop !== undefined) this.#stop.abort();
      else void this.#ask(this.#prompt.value.trim());
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || this.#stop !== undefined) return;
      event.preventDefault();
      void this.#ask(this.#prompt.value.trim());
    });
    element("clear", HTMLButtonElement).addEventListener("click", () => {
      this.#stop?.abort();
      this.#turns = [];
      this.#messages.replaceChildren();
    });
  }

  async #ask(content: string): Promise<void> {
    if (content === "") return;
    this.#prompt.value = "";
    this.#show("user").textContent = content;
    const turns: ChatTurn[] = [...this.#turns, { role: "user", content }];
    const bubble = this.#show("assistant");
    const figures = create("div", { className: "figures" });
    bubble.after(figures);
    this.#stop = new AbortController();
    this.#send.textContent = "Stop";
    try {
      const answer = await this.#stream(turns, bubble, figures, this.#stop.signal);
      this.#turns = [...turns, { role: "assistant", content: answer }];
    } catch (error) {
      figures.textContent = error instanceof StreamServeError ? error.message : String(error);
      if (error instanceof StreamServeError && error.code === "connection_failed") this.#client = undefined;
      // What was read stays part of the conversation, as it does on the screen.
      if (bubble.textContent) this.#turns = [...turns, { role: "assistant", content: bubble.textContent }];
    } finally {
      this.#stop = undefined;
      this.#send.textContent = "Send";
    }
  }

  async #stream(
    messages: readonly ChatTurn[],
    bubble: HTMLElement,
    figures: HTMLElement,
    signal: AbortSignal,
  ): Promise<string> {
    const key = this.#key();
    this.#client ??= await StreamServeClient.connect(
      location.origin,
      key === undefined ? {} : { apiKey: key },
    );
    const began = performance.now();
    const generation = this.#client.chat({
      messages,
      temperature: element("temperature", HTMLInputElement).valueAsNumber,
      maxTokens: element("max-tokens", HTMLInputElement).valueAsNumber,
      signal,
    });
    let first: number | undefined;
    let tokens = 0;
    for await (const delta of generation) {
      first ??= performance.now();
      tokens += delta.tokens;
      bubble.append(delta.text);
      figures.textContent = live(first - began, performance.now() - first, tokens);
      this.#messages.scrollTop = this.#messages.scrollHeight;
    }
    if (generation.ending !== undefined && first !== undefined) {
      figures.textContent = live(first - began, performance.now() - first, tokens) + tail(generation.ending);
    }
    return bubble.textContent ?? "";
  }

  #show(role: "user" | "assistant"): HTMLElement {
    const bubble = create("div", { className: "bubble" });
    this.#messages.append(create("li", { className: role }, bubble));
    this.#messages.scrollTop = this.#messages.scrollHeight;
    return bubble;
  }
}

/** Time to first token and time per output token, as this page sees them. */
function live(ttftMs: number, sinceMs: number, tokens: number): string {
  const perToken = tokens > 1 ? sinceMs / (tokens - 1) : 0;
  const rate =
    perToken > 0 ? ` · TPOT ${perToken.toFixed(1)} ms · ${(1000 / perToken).toFixed(0)} tok/s` : "";
  return `TTFT ${ttftMs.toFixed(0)} ms${rate} · ${tokens} tokens`;
}

function tail({ usage, finish }: Ending): string {
  const drafts = usage.draftTokens > 0 ? ` · drafts ${usage.acceptedTokens}/${usage.draftTokens}` : "";
  const cached = usage.cachedTokens > 0 ? ` · prompt ${usage.cachedTokens}/${usage.promptTokens} cached` : "";
  return `${drafts}${cached} · ${finish}`;
}
