import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { expect, test } from "vitest";
import { Grants } from "../dist/gateway/grants.js";
import { EventStream } from "../dist/gateway/sse.js";

/** Back-pressure of server-sent events over a real socket. */

const EVENT = "x".repeat(16_384);
/** Far more than the kernel's socket buffers hold. */
const MOST_EVENTS = 4_096;

/** A server whose one request is answered by `answer`, and a socket that has sent that request. */
async function connected(answer: (response: ServerResponse) => void) {
  const server = createServer((_, response) => answer(response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  return { server, socket };
}

test("a reader that takes nothing gets no more credit, and is given up after stallMs", async () => {
  let granted = 0;
  let sent = 0;
  const stalled = new Promise<void>((resolve) => {
    connected((response) => {
      const events = new EventStream(response, 200, () => {
        response.destroy();
        resolve();
      });
      const send = (): void => {
        if (sent++ < MOST_EVENTS) events.event(EVENT, () => setImmediate(send));
      };
      send();
    }).then(({ server, socket }) => {
      socket.pause();
      socket.on("close", () => server.close());
      granted = sent;
    });
  });
  await stalled;
  expect(sent).toBeGreaterThan(granted);
  expect(sent).toBeLessThan(MOST_EVENTS);
});

test("a reader that takes all gets every event in order, and all its credit back", async () => {
  const COUNT = 500;
  const WINDOW = 8;
  let credit = WINDOW;
  const grants = new Grants(WINDOW);
  const { server, socket } = await connected((response) => {
    const events = new EventStream(response, 5_000, () => response.destroy());
    let sent = 0;
    // Sends only what there is credit for, as the actors do.
    const pump = (): void => {
      while (credit > 0 && sent < COUNT) {
        credit--;
        events.event(`${sent++}:${EVENT}`, () => grants.taken(1));
      }
      if (sent === COUNT) events.end();
    };
    grants.attach({
      grant: (tokens) => {
        credit += tokens;
        setImmediate(pump);
      },
    });
    pump();
  });
  let text = "";
  socket.on("data", (data) => {
    text += String(data);
    if (text.endsWith("\r\n0\r\n\r\n")) socket.end();
  });
  await once(socket, "close");
  server.close();
  const numbers = [...text.matchAll(/data: (\d+):/g)].map((match) => Number(match[1]));
  expect(numbers).toEqual(Array.from({ length: COUNT }, (_, i) => i));
});
