import type { Ending } from "../client/text-generation.js";
import type { Config } from "../config/schema.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "./core.js";
import type { Exchange } from "./exchange.js";
import { generateText, type PlacedDelta, type TextRequest } from "./generate-text.js";
import type { Generation } from "./generation.js";
import { Grants } from "./grants.js";
import { errorBody } from "./http-errors.js";
import { nthSeed, type PrepareOptions, WIRE_NAMES } from "./prepare.js";
import { EventStream } from "./sse.js";

/** Generations that one HTTP request may start, over all prompts and choices. */
export const MOST_CHOICES = 128;

/** One complete choice. */
export interface ChoiceResult {
  readonly text: string;
  readonly logprobs: PlacedDelta["logprobs"];
  readonly ending: Ending;
}

/** How a route words its answers. */
export interface ReplyFormat {
  /** A chunk of a stream; `first` of its choice. */
  chunk(choice: number, delta: PlacedDelta, first: boolean): object;
  /** The chunk that ends a choice; `first` when it had no other. */
  last(choice: number, ending: Ending, first: boolean): object;
  /** The chunk after all choices, if the request asked for it. */
  usage?(usage: OpenAiUsage): object;
  whole(choices: readonly ChoiceResult[], usage: OpenAiUsage): object;
}

export interface OpenAiUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: { readonly cached_tokens: number };
  /** Not OpenAI's: drafts of speculation, proposed and accepted. */
  readonly draft_tokens: number;
  readonly accepted_tokens: number;
}

/** `n` requests for each prompt; choice i of a prompt draws with seed + i. Throws `invalid_parameter`. */
export function fanOut(prompts: readonly TextRequest[], n: number): TextRequest[] {
  if (prompts.length * n > MOST_CHOICES) {
    throw new StreamServeError(
      "invalid_parameter",
      `${prompts.length} prompts with n = ${n} make ${prompts.length * n} choices: at most ${MOST_CHOICES} fit a request.`,
      { param: "n" },
    );
  }
  return prompts.flatMap((prompt) =>
    Array.from({ length: n }, (_, i) => ({
      ...prompt,
      sampling: { ...prompt.sampling, seed: nthSeed(prompt.sampling.seed, i) },
    })),
  );
}

/** Credit before the first grant: a stream's window, or all at once when the answer is sent whole. */
export function prepareOptions(
  server: Config["server"],
  stream: boolean,
  source: PrepareOptions["source"],
): PrepareOptions {
  return {
    names: WIRE_NAMES,
    source,
    defaultMaxTokens: server.defaultMaxTokens,
    credit: stream ? server.creditWindowTokens : Number.POSITIVE_INFINITY,
  };
}

/** Runs all choices and answers as server-sent events. Throws before the first of them, and for a `slow_reader`. */
export function streamChoices(
  core: ServingCore,
  server: Config["server"],
  exchange: Exchange,
  requests: readonly TextRequest[],
  perPrompt: number,
  format: ReplyFormat,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const running = new Running(exchange, resolve);
    const stalled = (): void => {
      running.cancel();
      exchange.response.destroy();
      reject(new StreamServeError("slow_reader", `The reader took nothing for ${server.stallMs} ms.`));
    };
    const events = new EventStream(exchange.response, server.stallMs, stalled);
    const endings: Ending[] = [];
    const begun = new Set<number>();
    const isFirst = (choice: number): boolean => !begun.has(choice) && begun.add(choice).has(choice);
    let left = requests.length;

    const failed = (error: StreamServeError): void => {
      if (!running.cancel()) return;
      if (!exchange.response.headersSent) {
        reject(error);
        return;
      }
      events.event(JSON.stringify(errorBody(error)));
      events.end();
      resolve();
    };
    const finish = (): void => {
      if (format.usage !== undefined) events.event(JSON.stringify(format.usage(usageOf(endings, perPrompt))));
      events.event("[DONE]");
      events.end();
      resolve();
    };

    requests.forEach((request, choice) => {
      if (running.over) return;
      const grants = new Grants(server.creditWindowTokens);
      const generation = generateText(core, request, {
        delta(delta) {
          const taken = (): void => grants.taken(delta.tokens);
          // What is held back shows no chunk, but the reader isn't behind.
          if (delta.text === "" && delta.logprobs.length === 0) taken();
          else events.event(JSON.stringify(format.chunk(choice, delta, isFirst(choice))), taken);
        },
        done(ending) {
          endings[choice] = ending;
          events.event(JSON.stringify(format.last(choice, ending, isFirst(choice))));
          if (--left === 0) finish();
        },
        failed,
      });
      grants.attach(generation);
      running.add(generation);
    });
  });
}

/** Runs all choices and answers with them whole. */
export async function answerWhole(
  core: ServingCore,
  exchange: Exchange,
  requests: readonly TextRequest[],
  perPrompt: number,
  format: ReplyFormat,
): Promise<void> {
  const results = await new Promise<ChoiceResult[] | undefined>((resolve, reject) => {
    const running = new Running(exchange, () => resolve(undefined));
    const results: ChoiceResult[] = [];
    let left = requests.length;
    requests.forEach((request, choice) => {
      if (running.over) return;
      const texts: string[] = [];
      const logprobs: PlacedDelta["logprobs"][] = [];
      running.add(
        generateText(core, request, {
          delta(delta) {
            texts.push(delta.text);
            logprobs.push(delta.logprobs);
          },
          done(ending) {
            results[choice] = { text: texts.join(""), logprobs: logprobs.flat(), ending };
            if (--left === 0) resolve(results);
          },
          failed(error) {
            if (running.cancel()) reject(error);
          },
        }),
      );
    });
  });
  if (results === undefined) return;
  const usage = usageOf(
    results.map(({ ending }) => ending),
    perPrompt,
  );
  exchange.sendJson(200, format.whole(results, usage));
}

/** The generations of one HTTP request: they end together when one fails or the client goes away. */
class Running {
  readonly #generations: Pick<Generation, "cancel">[] = [];
  #over = false;

  constructor(exchange: Exchange, gone: () => void) {
    exchange.response.once("close", () => {
      if (!exchange.response.writableFinished && this.cancel()) gone();
    });
    if (exchange.gone && this.cancel()) gone();
  }

  get over(): boolean {
    return this.#over;
  }

  add(generation: Pick<Generation, "cancel">): void {
    if (this.#over) generation.cancel();
    else this.#generations.push(generation);
  }

  /** Cancels all; false if that was done before. */
  cancel(): boolean {
    if (this.#over) return false;
    this.#over = true;
    for (const generation of this.#generations) generation.cancel();
    return true;
  }
}

/** Prompts count once each, whatever the number of choices. */
function usageOf(endings: readonly Ending[], perPrompt: number): OpenAiUsage {
  const sum = (of: (ending: Ending) => number, from = endings): number =>
    from.reduce((total, ending) => total + of(ending), 0);
  const prompts = endings.filter((_, choice) => choice % perPrompt === 0);
  const prompt = sum(({ usage }) => usage.promptTokens, prompts);
  const output = sum(({ usage }) => usage.outputTokens);
  return {
    prompt_tokens: prompt,
    completion_tokens: output,
    total_tokens: prompt + output,
    prompt_tokens_details: { cached_tokens: sum(({ usage }) => usage.cachedTokens, prompts) },
    draft_tokens: sum(({ usage }) => usage.draftTokens),
    accepted_tokens: sum(({ usage }) => usage.acceptedTokens),
  };
}
