import type { ActorRef } from "./actor.js";
import { RuntimeError } from "./runtime-error.js";

/** The names of a system's actors. A ref is the actor's place in the order of starting. */
export class Directory {
  private readonly refByName = new Map<string, ActorRef>();
  private readonly nameByRef: (string | undefined)[] = [];
  private readonly refsByRole = new Map<string, readonly ActorRef[]>();

  add(name: string, ref: ActorRef): void {
    this.refByName.set(name, ref);
    this.nameByRef[ref] = name;
    this.refsByRole.clear();
  }

  remove(ref: ActorRef): void {
    const name = this.nameByRef[ref];
    if (name === undefined) return;
    this.refByName.delete(name);
    this.refsByRole.clear();
  }

  has(name: string): boolean {
    return this.refByName.has(name);
  }

  /** Throws `deployment_invalid` if an actor of that name runs. */
  checkFree(name: string): void {
    if (this.has(name)) throw new RuntimeError("deployment_invalid", `An actor "${name}" runs already.`);
  }

  ref(name: string): ActorRef {
    const ref = this.refByName.get(name);
    if (ref === undefined) throw new RuntimeError("unknown_actor", `There is no actor "${name}".`);
    return ref;
  }

  /** The names of actors that have ended are still known. */
  nameOf(ref: ActorRef): string {
    const name = this.nameByRef[ref];
    if (name === undefined) throw new RuntimeError("unknown_actor", `There is no actor number ${ref}.`);
    return name;
  }

  refs(role: string): readonly ActorRef[] {
    let refs = this.refsByRole.get(role);
    if (refs === undefined) {
      refs = [...this.refByName]
        .map(([name, ref]) => ({ ref, index: indexIn(role, name) }))
        .filter(({ index }) => index >= -1)
        .sort((a, b) => a.index - b.index)
        .map(({ ref }) => ref);
      this.refsByRole.set(role, refs);
    }
    return refs;
  }

  entries(): [string, ActorRef][] {
    return [...this.refByName];
  }
}

/** -1 for `role` itself, n for `role.<n>`, else -2. */
function indexIn(role: string, name: string): number {
  if (name === role) return -1;
  const index = name.startsWith(`${role}.`) ? name.slice(role.length + 1) : "";
  return /^\d+$/.test(index) ? Number(index) : -2;
}
