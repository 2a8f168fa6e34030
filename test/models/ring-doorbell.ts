/**
 * An exhaustive search over the protocol of src/runtime/ring.ts and doorbell.ts: a sender, a receiver and the
 * supervisor that follows a death, one step for each access to shared memory.
 *
 * `position` counts messages. Each side waits on its own doorbell: the receiver for messages, the sender for room.
 */

/** Mistakes that the search must find. */
export type Bug =
  /** The receiver looks at the ring before it raises its flag. */
  | "look first"
  /** The sender looks at the flag before it publishes. */
  | "flag first"
  /** The supervisor rings no doorbells after a death. */
  | "no force"
  /** The sender asks for room before it raises its flag: a late answer to an earlier request uses this one up. */
  | "ask first";

export interface Case {
  readonly messages: number;
  readonly capacity: number;
  readonly deaths: number;
  readonly bug?: Bug;
}

export interface Result {
  readonly states: number;
  /** A state from which not both sides can finish, if there is one. */
  readonly stuck: State | undefined;
}

interface Bell {
  readonly sequence: number;
  readonly sleeping: boolean;
  readonly blocked: boolean;
}

type Side = "sender" | "receiver";

export interface State {
  readonly head: number;
  readonly tail: number;
  readonly waiting: boolean;
  readonly deaths: number;
  readonly bells: Readonly<Record<Side, Bell>>;
  readonly at: Readonly<Record<Side, string>>;
  /** The sequence that each side read before it slept. */
  readonly snapshot: Readonly<Record<Side, number>>;
  /** Messages that the sender has written. */
  readonly staged: number;
}

export function check(problem: Case): Result {
  const bell: Bell = { sequence: 0, sleeping: false, blocked: false };
  const first: State = {
    head: 0,
    tail: 0,
    waiting: false,
    deaths: problem.deaths,
    bells: { sender: bell, receiver: bell },
    at: { sender: "start", receiver: "start" },
    snapshot: { sender: 0, receiver: 0 },
    staged: 0,
  };
  const seen = new Map([[JSON.stringify(first), first]]);
  const before = new Map<string, string[]>();
  const queue = [first];
  for (let state = queue.pop(); state !== undefined; state = queue.pop()) {
    const key = JSON.stringify(state);
    for (const next of steps(state, problem)) {
      const nextKey = JSON.stringify(next);
      if (!seen.has(nextKey)) {
        seen.set(nextKey, next);
        queue.push(next);
      }
      const sources = before.get(nextKey);
      if (sources === undefined) before.set(nextKey, [key]);
      else sources.push(key);
    }
  }
  // Backwards from the ends: what is not reached can't finish.
  const hopeful = new Set([...seen].filter(([, state]) => isDone(state)).map(([key]) => key));
  const open = [...hopeful];
  for (let key = open.pop(); key !== undefined; key = open.pop()) {
    for (const source of before.get(key) ?? []) {
      if (hopeful.has(source)) continue;
      hopeful.add(source);
      open.push(source);
    }
  }
  return { states: seen.size, stuck: [...seen].find(([key]) => !hopeful.has(key))?.[1] };
}

const isDone = ({ at }: State) => at.sender === "done" && at.receiver === "done";

function* steps(state: State, problem: Case): Generator<State> {
  const sender = senderStep(state, problem);
  if (sender !== undefined) yield sender;
  const receiver = receiverStep(state, problem);
  if (receiver !== undefined) yield receiver;
  if (state.deaths === 0) return;
  for (const side of ["sender", "receiver"] as const) {
    if (state.at[side] === "done") continue;
    const dead = {
      ...state,
      deaths: state.deaths - 1,
      at: { ...state.at, [side]: "start" },
      staged: state.tail,
    };
    const other = side === "sender" ? "receiver" : "sender";
    const calm = setBell(side === "sender" ? dead : { ...dead, staged: state.staged }, side, {
      blocked: false,
    });
    yield problem.bug === "no force" ? calm : force(calm, other);
  }
}

function senderStep(state: State, { messages, capacity, bug }: Case): State | undefined {
  const go = (at: string, change: Partial<State> = {}): State => ({
    ...state,
    ...change,
    at: { ...state.at, sender: at },
  });
  const hasRoom = state.staged - state.head < capacity;
  switch (state.at.sender) {
    case "start":
      if (state.staged === messages) return go("done");
      return hasRoom ? go("write") : go(bug === "ask first" ? "ask" : "snapshot");
    case "ask":
      return go(bug === "ask first" ? "snapshot" : "idle", { waiting: true });
    case "write":
      return go(bug === "flag first" ? "look" : "publish", { staged: state.staged + 1 });
    case "publish":
      return go(bug === "flag first" ? "start" : "look", { tail: state.staged });
    case "look":
    case "exchange":
    case "force":
      return ringing(state, "sender", "receiver", bug === "flag first" ? "publish" : "start");
    default:
      return sleeping(state, "sender", hasRoom, bug === "ask first" ? "idle" : "ask");
  }
}

function receiverStep(state: State, { messages, capacity, bug }: Case): State | undefined {
  const go = (at: string, change: Partial<State> = {}): State => ({
    ...state,
    ...change,
    at: { ...state.at, receiver: at },
  });
  const hasMessage = state.head !== state.tail;
  switch (state.at.receiver) {
    case "start":
      if (hasMessage) return go("read");
      return go(state.head === messages ? "done" : "snapshot");
    case "read":
      return go("wanted", { head: state.head + 1 });
    case "wanted": {
      const rings = state.waiting && state.tail - state.head <= capacity / 2;
      return go(rings ? "take" : "start");
    }
    case "take":
      return go(state.waiting ? "look" : "start", { waiting: false });
    case "look":
    case "exchange":
    case "force":
      return ringing(state, "receiver", "sender", "start");
    default:
      return sleeping(state, "receiver", hasMessage, "idle", bug === "look first");
  }
}

/** `Doorbell.ring`: load the flag, exchange it, then count and notify. */
function ringing(state: State, side: Side, target: Side, then: string): State {
  const go = (from: State, at: string): State => ({ ...from, at: { ...from.at, [side]: at } });
  const { sleeping } = state.bells[target];
  if (state.at[side] === "look") return go(state, sleeping ? "exchange" : then);
  if (state.at[side] === "exchange") {
    return go(setBell(state, target, { sleeping: false }), sleeping ? "force" : then);
  }
  return go(force(state, target), then);
}

/** `Doorbell.park`: read the count, raise the flag, look once more, wait, lower the flag. */
function sleeping(
  state: State,
  side: Side,
  ready: boolean,
  raised: string,
  lookFirst = false,
): State | undefined {
  const go = (from: State, at: string): State => ({ ...from, at: { ...from.at, [side]: at } });
  const bell = state.bells[side];
  switch (state.at[side]) {
    case "snapshot": {
      const snapshot = { ...state.snapshot, [side]: bell.sequence };
      return go({ ...state, snapshot }, lookFirst ? "idle" : "raise");
    }
    case "raise":
      return go(setBell(state, side, { sleeping: true }), lookFirst ? "wait" : raised);
    case "idle":
      if (ready) return go(state, "lower");
      return go(state, lookFirst ? "raise" : "wait");
    case "wait":
      return bell.sequence === state.snapshot[side]
        ? go(setBell(state, side, { blocked: true }), "blocked")
        : go(state, "lower");
    case "blocked":
      return bell.blocked ? undefined : go(state, "lower");
    case "lower":
      return go(setBell(state, side, { sleeping: false }), "start");
    default:
      return undefined;
  }
}

function force(state: State, side: Side): State {
  return setBell(state, side, { sequence: state.bells[side].sequence + 1, blocked: false });
}

function setBell(state: State, side: Side, change: Partial<Bell>): State {
  return { ...state, bells: { ...state.bells, [side]: { ...state.bells[side], ...change } } };
}
