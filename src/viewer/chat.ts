import type { ChatTurn, Ending } from "../client/text-generation.js";
import { StreamServeClient } from "../client/websocket-client.js";
import { StreamServeError } from "../errors.js";
import { create, element } from "./page.js";

/** Pixels from the end of the conversation within which new text is followed. */
const NEAR_END = 80;

/** The chat: one WebSocket, opened when first needed and again after it was lost. */
export class Chat {
  readonly #key: () => string | undefined;
  readonly #messages = element("messages", HTMLOListElement);
  readonly #prompt = element("prompt", HTMLTextAreaElement);
  readonly #send = element("send", HTMLButtonElement);
  readonly #openings = element("openings", HTMLDivElement);
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
    element("clear", HTMLButtonElement).addEventListener("click", () => this.#clear());
    for (const opening of this.#openings.querySelectorAll("button")) {
      opening.addEventListener("click", () => {
        if (this.#stop === undefined) void this.#ask(opening.textContent ?? "");
      });
    }
  }

  async #ask(content: string): Promise<void> {
    if (content === "") return;
    this.#prompt.value = "";
    this.#openings.hidden = true;
    const question = this.#show("user");
    question.textContent = content;
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
      this.#tell(error, figures);
      // What was read stays part of the conversation, as it does on the screen; else the question can be mended.
      if (bubble.textContent) this.#turns = [...turns, { role: "assistant", content: bubble.textContent }];
      else {
        bubble.remove();
        question.classList.add("unanswered");
        if (this.#prompt.value === "") this.#prompt.value = content;
      }
    } finally {
      this.#stop = undefined;
      this.#send.textContent = "Send";
      this.#prompt.focus({ preventScroll: true });
    }
  }

  #tell(error: unknown, figures: HTMLElement): void {
    const stopped = error instanceof StreamServeError && error.code === "cancelled";
    figures.textContent = stopped ? "Stopped." : error instanceof Error ? error.message : String(error);
    figures.classList.toggle("failed", !stopped);
    figures.scrollIntoView({ block: "nearest" });
    if (stopped) return;
    // The socket may be what failed: the next question opens another.
    void this.#client?.close();
    this.#client = undefined;
  }

  #clear(): void {
    this.#stop?.abort();
    this.#turns = [];
    this.#messages.replaceChildren();
    this.#openings.hidden = false;
    this.#prompt.focus();
  }

  /** Whoever has scrolled up to read is left there. */
  #append(bubble: HTMLElement, text: string): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#messages;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    bubble.append(text);
    if (atEnd) this.#messages.scrollTop = this.#messages.scrollHeight;
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
      figures.textContent = live(first - began, performance.now() - first, tokens);
      this.#append(bubble, delta.text);
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
