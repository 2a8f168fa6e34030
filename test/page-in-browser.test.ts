import type { Browser, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { RunningServer } from "../dist/index.js";
import { findBrowser, launch } from "./browser.js";
import { MODEL, metric, openAi, startTestServer } from "./serving.js";

/** The page at `/` in a real browser, over a real server. */

const executable = findBrowser();
if (executable === undefined) {
  process.stderr.write("not run: the page's tests need Chromium on PATH, or CHROME_PATH\n");
}

describe.skipIf(executable === undefined)("the page", () => {
  let browser: Browser;
  let server: RunningServer;
  let page: Page;
  let complaints: string[];

  beforeAll(async () => {
    [browser, server] = await Promise.all([launch(executable ?? ""), startTestServer()]);
  });

  afterAll(async () => {
    await browser?.close();
    await server?.close(0);
  });

  afterEach(() => page.close());

  async function open(url = server.url, width = 1280): Promise<void> {
    page = await browser.newPage({ viewport: { width, height: 800 } });
    complaints = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(url);
  }

  async function ask(question: string, maxTokens: number): Promise<void> {
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Most tokens").fill(String(maxTokens));
    await page.getByLabel("Message").fill(question);
    await page.keyboard.press("Enter");
  }

  const answer = () => page.locator("li.assistant .bubble").last();
  const figures = () => page.locator(".figures").last();
  const send = () => page.locator("#send");
  const idle = () => expect.poll(() => send().textContent(), { timeout: 20_000 }).toBe("Send");

  test("chats with the model, by keyboard alone, and shows the answer that HTTP gives", async () => {
    await open();
    // The message field has the focus from the start.
    await page.keyboard.type("Name three colours.");
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Most tokens").fill("24");
    await page.getByLabel("Message").press("Enter");
    await expect
      .poll(() => figures().textContent(), { timeout: 20_000 })
      .toMatch(/\d+ tokens.*(stop|length)$/);
    const { choices } = await openAi(server).chat.completions.create({
      model: MODEL,
      messages: [{ role: "user", content: "Name three colours." }],
      temperature: 0,
      max_tokens: 24,
    });
    expect(await answer().textContent()).toBe(choices[0]?.message.content);
    expect(await page.locator("#model").textContent()).toBe(`${MODEL} · 8192 tokens of context`);
    expect(complaints).toEqual([]);
  });

  test("shows every actor at work: tiles, timeline, lanes and mailboxes", async () => {
    await open();
    const actors = ["gateway", "scheduler", "router", "tuner", "prefill.0", "decode.0"];
    const names = () => page.locator("#mailboxes tr td:first-child").allTextContents();
    await expect.poll(names, { timeout: 20_000 }).toEqual(actors);
    expect(await page.locator("#lanes tr td:first-child").allTextContents()).toEqual(
      expect.arrayContaining(["prefill.0", "decode.0"]),
    );
    await page.getByLabel("Span").selectOption("10000");
    await ask("Count from one to fifty.", 60);
    const legend = () => page.locator("#legend").textContent();
    for (const span of ["prefill", "decode", "route"]) await expect.poll(legend).toContain(span);
    // Paint in the line of decode.0, the last: neither ground nor grid, which are grey.
    const painted = `(() => {
      const canvas = document.getElementById("timeline");
      const { data } = canvas.getContext("2d").getImageData(0, 5 * 26 * devicePixelRatio, canvas.width, 20);
      let coloured = 0;
      for (let i = 0; i < data.length; i += 4) {
        const pixel = data.subarray(i, i + 3);
        if (Math.max(...pixel) - Math.min(...pixel) > 60) coloured++;
      }
      return coloured;
    })()`;
    // A column at least: a quick answer takes a tenth of a second of the ten.
    await expect.poll(() => page.evaluate(painted)).toBeGreaterThan(10);
    const cached = page.locator(".tile", { hasText: "KV blocks cached" }).locator("b");
    await idle();
    // Pointing at a decode step tells what it was to draft, and why: from the newest backwards, until one is met.
    await page.getByRole("button", { name: "Pause" }).click();
    const timeline = page.locator("#timeline");
    const { width } = (await timeline.boundingBox())!;
    const caption = page.locator("#span");
    let told = "";
    for (let x = width - 1; x > 84 && !told.includes("decode.0 · decode"); x -= 2) {
      await timeline.hover({ position: { x, y: 5 * 26 + 13 } });
      told = (await caption.textContent())!;
    }
    const number = "-?[\\d.]+";
    expect(told).toMatch(
      new RegExp(
        `^decode\\.0 · decode · .*; decided: rows 1 · drafts a row ${number} · expected tokens ${number}` +
          ` · predicted ms ${number} · expected gain % ${number}`,
      ),
    );
    await expect.poll(async () => Number(await cached.textContent())).toBeGreaterThan(0);
    expect(complaints).toEqual([]);
  });

  test("stops an answer, and the server lets go of it", async () => {
    await open();
    await ask("Tell me a very long story.", 4000);
    await expect.poll(() => answer().textContent()).toMatch(/\w/);
    await send().click();
    await expect.poll(() => figures().textContent()).toBe("Stopped.");
    await expect.poll(() => metric(server.url, "vllm:num_requests_running")).toBe(0);
    await expect.poll(() => metric(server.url, "streamserve_kv_blocks_used")).toBe(0);
  });

  test("tells an error, and gives the question back to be mended", async () => {
    await open();
    await ask("Hello?", 99_999);
    await expect.poll(() => figures().textContent()).toMatch(/asks for 99999, but the context holds 8192/);
    expect(await page.getByLabel("Message").inputValue()).toBe("Hello?");
    await ask("Hello?", 4);
    await expect.poll(() => figures().textContent()).toMatch(/4 tokens/);
  });

  test("a server that goes is missed, and found again", async () => {
    const first = await startTestServer();
    await open(first.url);
    await ask("Hi", 4);
    await idle();
    const port = Number(new URL(first.url).port);
    await first.close(0);
    const notice = () => page.locator("#notice").textContent();
    await expect.poll(notice, { timeout: 20_000 }).toMatch(/trying again/);
    await ask("Are you there?", 4);
    await expect.poll(() => figures().getAttribute("class")).toContain("failed");
    const second = await startTestServer({ server: { port } });
    await expect.poll(notice, { timeout: 20_000 }).toBe("");
    await ask("And now?", 4);
    await expect.poll(() => figures().textContent()).toMatch(/4 tokens/);
    await second.close(0);
  });

  test("asks for the key of a server that has one", async () => {
    const locked = await startTestServer({ server: { apiKey: "secret" } });
    await open(locked.url);
    await page.getByPlaceholder("API key").fill("secret");
    await page.getByRole("button", { name: "Unlock" }).click();
    await ask("Hi", 4);
    await expect.poll(() => figures().textContent()).toMatch(/4 tokens/);
    await locked.close(0);
  });

  test("fits a phone, and offers something to ask", async () => {
    await open(server.url, 360);
    await page.getByLabel("Most tokens").fill("4");
    await page.getByRole("button", { name: "Why is the sky blue?" }).click();
    await expect.poll(() => figures().textContent()).toMatch(/4 tokens/);
    expect(await page.evaluate("document.documentElement.scrollWidth - innerWidth")).toBeLessThanOrEqual(0);
    await page.getByRole("button", { name: "New chat" }).click();
    expect(await page.locator("li").count()).toBe(0);
    expect(await page.locator("#openings").isVisible()).toBe(true);
  });
});
