/** Reads a server-sent event stream that was recorded as pieces of bytes with their arrival times. */

/** Bytes as the socket gave them; pieces split anywhere, inside a character too. */
export interface Piece {
  readonly atMs: number;
  readonly bytes: Uint8Array;
}

export interface ServerEvent {
  /** When the byte that completed the event arrived. */
  readonly atMs: number;
  readonly data: string;
}

const LF = 10;
const CR = 13;

/**
 * The events of a whole recorded stream, in order, each stamped with the arrival of its closing blank line.
 * Lines end in LF, CR LF or CR; comments and fields other than `data` are skipped; an event that the stream
 * cuts off is dropped, as the HTML standard's event stream format asks.
 */
export function readEvents(pieces: readonly Piece[]): ServerEvent[] {
  const decoder = new TextDecoder();
  const events: ServerEvent[] = [];
  let line: Uint8Array[] = [];
  let data: string[] = [];
  let afterCarriageReturn = false;
  let firstLine = true;

  const endLine = (atMs: number) => {
    let text = decoder.decode(Buffer.concat(line));
    line = [];
    if (firstLine && text.startsWith("\ufeff")) text = text.slice(1);
    firstLine = false;
    if (text === "") {
      if (data.length > 0) events.push({ atMs, data: data.join("\n") });
      data = [];
    } else if (text === "data") {
      data.push("");
    } else if (text.startsWith("data:")) {
      data.push(text.slice(text[5] === " " ? 6 : 5));
    }
  };

  for (const { atMs, bytes } of pieces) {
    let from = 0;
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at];
      const pairedLineFeed = afterCarriageReturn && byte === LF;
      afterCarriageReturn = byte === CR;
      if (pairedLineFeed) {
        from = at + 1;
      } else if (byte === LF || byte === CR) {
        line.push(bytes.subarray(from, at));
        from = at + 1;
        endLine(atMs);
      }
    }
    if (from < bytes.length) line.push(bytes.subarray(from));
  }
  return events;
}
