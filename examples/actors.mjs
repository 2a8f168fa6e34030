// Two actors on threads of their own play ping-pong: node examples/actors.mjs (after npm run build:ts)
import { ActorSystem, defineProtocol, u32 } from "streamserve/runtime";

export const protocol = defineProtocol({ serve: { rallies: u32 }, ball: { hits: u32 }, score: { hits: u32 } });

export const player = ({ partner }) => ({
  receive(message, ctx) {
    if (message.type === "serve") ctx.tell(ctx.ref(partner), { type: "ball", hits: message.rallies });
    else if (message.hits > 0) ctx.tell(ctx.ref(partner), { type: "ball", hits: message.hits - 1 });
    else ctx.log("info", `${ctx.nameOf(ctx.self)} has the ball at the end`);
  },
  started: (ctx) => partner === "pong" && ctx.after(0, { type: "serve", rallies: 10_000 }),
});

const here = (name) => ({ module: import.meta.url, name });
const actor = (name, partner) => ({ name, behaviour: here("player"), options: { partner } });
const edge = (from, to) => ({ from, to, whenFull: "refuse", bytes: 4096 });
if ((await import("node:worker_threads")).isMainThread) {
  const actors = [actor("ping", "pong"), actor("pong", "ping")];
  const edges = [edge("ping", "pong"), edge("pong", "ping")];
  const system = await ActorSystem.start({ protocol, protocolRef: here("protocol"), actors, edges, slabs: [] });
  system.on("log", ({ text }) => console.log(text));
  await system.stop();
}
