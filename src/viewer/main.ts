import { Chat } from "./chat.js";
import { House } from "./house.js";
import { element, notice } from "./page.js";
import { Timeline } from "./timeline.js";
import { followTrace } from "./trace-source.js";

/** Pause before a lost connection is tried again. */
const RETRY_MS = 2_000;
/** The key lives as long as the tab. */
const KEY = "streamserve.key";

let key = sessionStorage.getItem(KEY) ?? undefined;
const keyForm = element("key-form", HTMLFormElement);
const timeline = new Timeline();
const house = new House();
new Chat(() => key);

keyForm.addEventListener("submit", (event) => {
  event.preventDefault();
  key = element("key", HTMLInputElement).value;
  sessionStorage.setItem(KEY, key);
  keyForm.hidden = true;
});

/** Follows the server for as long as the page is open. */
for (;;) {
  try {
    await showModel();
    const status = await followTrace(key, {
      spans: (now, spans) => timeline.add(now, spans),
      state: (now, actors, service) => {
        notice("");
        timeline.setActors(actors.map(({ name }) => name));
        house.show(now, actors, service);
      },
    });
    if (status === 401) keyForm.hidden = false;
    notice(status === 401 ? "This server asks for its API key." : "The server has gone; trying again.");
  } catch {
    notice("The server can't be reached; trying again.");
  }
  await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
}

async function showModel(): Promise<void> {
  const response = await fetch(
    "/v1/models",
    key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } },
  );
  if (!response.ok) return;
  const { data } = (await response.json()) as {
    readonly data: readonly { readonly id: string; readonly max_model_len: number }[];
  };
  const model = data[0];
  if (model === undefined) return;
  element("model", HTMLParagraphElement).textContent =
    `${model.id} · ${model.max_model_len} tokens of context`;
}
