import type { ActorSpec, Deployment, EdgeSpec } from "./actor.js";
import { RuntimeError } from "./runtime-error.js";

/** Refs are small numbers; more actors than this in a system's life is a leak. */
export const MOST_ACTORS = 65_536;

/** Throws `deployment_invalid` or `edge_cycle` for a deployment that can't run. */
export function checkDeployment(deployment: Deployment): void {
  const actors = new Map<string, ActorSpec>();
  for (const actor of deployment.actors) {
    if (actors.has(actor.name)) invalid(`two actors are named "${actor.name}"`);
    actors.set(actor.name, actor);
  }
  if (actors.size === 0) invalid("it has no actors");
  checkEdges(deployment.edges, (name) => actors.get(name));
  const owners = new Set<string>();
  for (const { owner } of deployment.slabs) {
    if (!actors.has(owner)) invalid(`the owner of a slab, "${owner}", is no actor`);
    if (owners.has(owner)) invalid(`"${owner}" owns two slabs`);
    owners.add(owner);
  }
}

/** The same for edges; `actorOf` looks an actor up by name. */
export function checkEdges(
  edges: readonly EdgeSpec[],
  actorOf: (name: string) => Pick<ActorSpec, "thread"> | undefined,
): void {
  const pairs = new Set<string>();
  for (const { from, to, whenFull } of edges) {
    const sender = actorOf(from);
    if (sender === undefined) invalid(`an edge leaves "${from}", which is no actor`);
    if (actorOf(to) === undefined) invalid(`an edge leads to "${to}", which is no actor`);
    const pair = JSON.stringify([from, to]);
    if (pairs.has(pair)) invalid(`two edges lead from "${from}" to "${to}"`);
    pairs.add(pair);
    if (whenFull === "block" && sender.thread === "main") {
      invalid(
        `the edge from "${from}" to "${to}" would block the main thread; make it "refuse" or "drop-oldest"`,
      );
    }
  }
  const cycle = findBlockCycle(edges);
  if (cycle !== undefined) {
    throw new RuntimeError(
      "edge_cycle",
      `These actors could wait for each other for ever: ${cycle.join(" -> ")}. Make one of these edges "refuse".`,
    );
  }
}

/** A cycle of `block` edges, its first name repeated at the end; undefined if there is none. */
export function findBlockCycle(edges: readonly EdgeSpec[]): string[] | undefined {
  const next = new Map<string, string[]>();
  for (const edge of edges) {
    if (edge.whenFull !== "block") continue;
    const targets = next.get(edge.from);
    if (targets === undefined) next.set(edge.from, [edge.to]);
    else targets.push(edge.to);
  }
  const cleared = new Set<string>();
  for (const start of next.keys()) {
    // Depth first; `path` holds the open nodes, `pending` their unvisited targets.
    const path = [start];
    const pending = [[...(next.get(start) ?? [])]];
    while (path.length > 0) {
      const target = pending.at(-1)!.pop();
      if (target === undefined) {
        cleared.add(path.pop()!);
        pending.pop();
      } else if (path.includes(target)) {
        return [...path.slice(path.indexOf(target)), target];
      } else if (!cleared.has(target)) {
        path.push(target);
        pending.push([...(next.get(target) ?? [])]);
      }
    }
  }
  return undefined;
}

function invalid(what: string): never {
  throw new RuntimeError("deployment_invalid", `The deployment can't run: ${what}.`);
}
