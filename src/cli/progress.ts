import { Presets, SingleBar } from "cli-progress";
import type { FetchProgress } from "../model/resolve.js";

/** Shows a fetch on stderr: a bar on a terminal, a line at each quarter elsewhere. */
export function fetchReporter(model: string, out: NodeJS.WriteStream = process.stderr) {
  const draw = progressDrawing(out);
  return {
    report(event: FetchProgress): void {
      switch (event.stage) {
        case "fetching":
          draw.show(`Fetching ${model} from ${event.source}`, event.doneBytes, event.totalBytes);
          break;
        case "unpacking":
          draw.show(`Unpacking and verifying ${model}`, event.doneBytes, event.totalBytes);
          break;
        case "waiting":
          draw.end();
          out.write(`Process ${event.pid} is fetching ${model}: waiting for it\n`);
          break;
        case "source-failed":
          draw.end();
          out.write(`${event.source}: ${event.reason}\n`);
          break;
      }
    },
    end(): void {
      draw.end();
    },
  };
}

/** A bar on a terminal, a line at each quarter elsewhere. */
export function progressDrawing(out: NodeJS.WriteStream = process.stderr): Drawing {
  return out.isTTY ? bar(out) : lines(out);
}

export interface Drawing {
  /** A new `title` ends the bar before it. */
  show(title: string, doneBytes: number, totalBytes: number): void;
  end(): void;
}

function bar(out: NodeJS.WriteStream): Drawing {
  let title = "";
  let current: SingleBar | undefined;
  const end = () => {
    current?.stop();
    current = undefined;
    title = "";
  };
  return {
    show(next, doneBytes, totalBytes) {
      if (next !== title) {
        end();
        title = next;
        const format = "{title} [{bar}] {percentage}% of {megabytes} MB";
        current = new SingleBar({ format, stream: out, hideCursor: true }, Presets.rect);
        current.start(totalBytes, 0, { title, megabytes: Math.round(totalBytes / 1e6) });
      }
      current?.update(doneBytes);
    },
    end,
  };
}

function lines(out: NodeJS.WriteStream): Drawing {
  let title = "";
  let quarter = -1;
  return {
    show(next, doneBytes, totalBytes) {
      if (next !== title) {
        title = next;
        quarter = -1;
      }
      const reached = Math.floor((4 * doneBytes) / totalBytes);
      if (reached > quarter) {
        quarter = reached;
        out.write(`${title}: ${25 * reached}% of ${Math.round(totalBytes / 1e6)} MB\n`);
      }
    },
    end() {},
  };
}
