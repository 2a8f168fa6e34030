import type { ActorRef, ActorSpec } from "../actor.js";
import { MOST_ACTORS } from "../deployment.js";
import { createDoorbell } from "../doorbell.js";
import { createRing } from "../ring.js";
import { RuntimeError } from "../runtime-error.js";
import type { ActorSetup, Attachment, EdgeEnd, SpawnOrder } from "./setup.js";

/**
 * Makes what a child shares with its parent (its ref, its doorbell and the rings of its edges), so that the
 * parent can send to it at once; the messages wait until the system has started it.
 */
export function prepareSpawn(
  spec: ActorSpec,
  parent: ActorSetup,
): { order: SpawnOrder; attachment: Attachment } {
  const ref = takeRef(parent.nextRef);
  const bell = createDoorbell();
  const edges = spec.edges ?? [];
  const rings = edges.map(({ bytes }) => createRing(bytes));
  const end = (index: number): EdgeEnd => ({
    peer: ref,
    whenFull: edges[index]!.whenFull,
    ring: rings[index]!,
    peerBell: bell,
  });
  const own = parent.spec.name;
  const ends = edges.map((edge, index) => ({ edge, end: end(index) }));
  return {
    order: { ref, spec, bell, rings },
    attachment: {
      name: spec.name,
      ref,
      incoming: ends.filter(({ edge }) => edge.from === spec.name && edge.to === own).map((one) => one.end),
      outgoing: ends.filter(({ edge }) => edge.from === own && edge.to === spec.name).map((one) => one.end),
    },
  };
}

/** The next free ref. */
export function takeRef(nextRef: SharedArrayBuffer): ActorRef {
  const ref = Atomics.add(new Int32Array(nextRef), 0, 1);
  if (ref >= MOST_ACTORS) {
    throw new RuntimeError(
      "deployment_invalid",
      `A system starts at most ${MOST_ACTORS} actors in its life.`,
    );
  }
  return ref as ActorRef;
}
