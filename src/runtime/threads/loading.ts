import type { ActorSpec, Behaviour, BehaviourFactory, ExportRef, Message } from "../actor.js";
import { RuntimeError } from "../runtime-error.js";
import type { Protocol } from "../schema.js";

type Module = Record<string, unknown>;

/** Modules that the running program has in itself, by the URLs that they would have as files of their own. */
const carried = new Map<string, () => Promise<Module>>();

/** From now on an `ExportRef` to `url` is answered by `load`, on the calling thread: a bundle's files are not there. */
export function carryModule(url: string, load: () => Promise<Module>): void {
  carried.set(url, load);
}

/** The value that an `ExportRef` names, imported on the calling thread. */
async function load(ref: ExportRef): Promise<unknown> {
  const module: Module = await (carried.get(ref.module)?.() ?? import(ref.module));
  const value = module[ref.name];
  if (value === undefined) {
    throw new RuntimeError("deployment_invalid", `${ref.module} exports no "${ref.name}".`);
  }
  return value;
}

export async function loadProtocol(ref: ExportRef): Promise<Protocol> {
  return (await load(ref)) as Protocol;
}

/** Makes the resources and the behaviour of an incarnation. */
export async function loadBehaviour<M extends Message>(
  spec: ActorSpec,
  incarnation: number,
): Promise<Behaviour<M>> {
  if (spec.behaviour === undefined) {
    throw new RuntimeError("deployment_invalid", `"${spec.name}" names no behaviour.`);
  }
  const factory = (await load(spec.behaviour)) as BehaviourFactory<M, unknown, unknown>;
  let resources: unknown;
  if (spec.resources !== undefined) {
    const provide = (await load(spec.resources)) as (options: unknown, incarnation: number) => unknown;
    resources = await provide(spec.options, incarnation);
  }
  return factory(spec.options, resources);
}
