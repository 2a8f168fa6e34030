import type { Ending } from "../client/text-generation.js";
import { StreamServeError } from "../errors.js";
import type { ServingCore } from "./core.js";
import type { Generation, GenerationRequest, GenerationSummary } from "./generation.js";
import { type PlacedLogprob, TextAssembler } from "./text-assembler.js";

/** A request whose prompt is tokens and whose parameters have been checked. */
export interface TextRequest extends GenerationRequest {
  /** Strings that end the output. */
  readonly stops: readonly string[];
}

/** Output of a generation as every door sees it. */
export interface PlacedDelta {
  readonly text: string;
  /** Output index of the first token covered. */
  readonly index: number;
  /** Tokens covered: these use up the reader's credit even where their text is held back. */
  readonly tokens: number;
  readonly logprobs: readonly PlacedLogprob[];
}

/** Receives text; `done` or `failed` is called exactly once, last. */
export interface TextSink {
  delta(delta: PlacedDelta): void;
  done(ending: Ending): void;
  failed(error: StreamServeError): void;
}

/** Starts a generation and turns its tokens into text. Never throws: failures go to the sink. */
export function generateText(
  core: Pick<ServingCore, "service" | "codec">,
  request: TextRequest,
  sink: TextSink,
): Pick<Generation, "cancel" | "grant"> {
  const assembler = new TextAssembler(core.codec, request.stops, request.sampling.stopIds);
  let shownTokens = 0;
  let broken = false;
  // The service may deliver before `generate` has returned.
  let generation: Generation | undefined;

  generation = core.service.generate(request, {
    tokens(delivered) {
      if (assembler.stopped || broken) return;
      try {
        const shown = assembler.push(delivered);
        shownTokens = delivered.index + shown.tokens;
        sink.delta({ ...shown, index: delivered.index });
        if (assembler.stopped) generation?.stop();
      } catch (thrown) {
        // What is wrong with one text must not reach the actor that delivers everybody's.
        broken = true;
        generation?.cancel();
        sink.failed(unreadable(thrown));
      }
    },
    done(summary) {
      if (broken) return;
      const rest = assembler.finish();
      if (rest.text !== "" || rest.logprobs.length > 0) sink.delta({ ...rest, index: shownTokens });
      sink.done(ending(summary, assembler.stopped ? shownTokens : summary.outputTokens, assembler.stopped));
    },
    failed(error) {
      if (!broken) sink.failed(error);
    },
  });
  if (broken) generation.cancel();
  else if (assembler.stopped) generation.stop();
  return generation;
}

function unreadable(thrown: unknown): StreamServeError {
  const why = thrown instanceof Error ? thrown.message : String(thrown);
  return new StreamServeError(
    "internal",
    `The output could not be turned into text: ${why}`,
    {},
    { cause: thrown },
  );
}

function ending(summary: GenerationSummary, outputTokens: number, stopped: boolean): Ending {
  const { promptTokens, cachedTokens, draftTokens, acceptedTokens, timings } = summary;
  return {
    finish: stopped ? "stop" : summary.finish,
    usage: { promptTokens, cachedTokens, outputTokens, draftTokens, acceptedTokens },
    timings,
  };
}
