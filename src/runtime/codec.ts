import type { Message } from "./actor.js";
import { codecSource } from "./codec-source.js";
import { type Views, viewsOf } from "./ring.js";
import { RuntimeError } from "./runtime-error.js";
import type { MessageOf, Protocol } from "./schema.js";

/**
 * Encoders and decoders of a protocol, compiled when it is built: one specialised function a message, since
 * decoding into object literals of one shape is several times faster than setting properties by name.
 */

type Size = (message: Message, start: number) => number;
type Write = (message: Message, views: Views, start: number) => number;
type Read = (views: Views, start: number, end: number) => Message;

interface Compiled {
  readonly size: readonly Size[];
  readonly write: readonly Write[];
  readonly read: readonly Read[];
  /** Where the last `read` stopped. */
  cursor(): number;
}

export class Codec<M extends Message = Message> {
  private readonly types: ReadonlyMap<string, number>;
  private readonly compiled: Compiled;
  /** Message names by their number on the wire. */
  readonly names: readonly string[];

  /** Throws `schema_invalid` when the protocol can't be laid out. */
  constructor(protocol: Protocol) {
    const { names, code } = codecSource(protocol);
    this.names = names;
    this.types = new Map(names.map((name, index) => [name, index]));
    // Only the schema's checked names and numbers enter the source.
    const build = new Function("malformed", "invalid", "put", "takeU32", "takeF32", "byteLength", code);
    this.compiled = build(malformed, invalid, put, takeU32, takeF32, Buffer.byteLength) as Compiled;
  }

  /** The message's number on the wire; throws `message_invalid` for one that the protocol doesn't name. */
  typeOf(message: M): number {
    const type = this.types.get(message.type);
    if (type === undefined) {
      throw new RuntimeError("message_invalid", `The protocol has no message "${message.type}".`);
    }
    return type;
  }

  /** Bytes that `encode` will write; checks what has a variable length. */
  sizeOf(type: number, message: M): number {
    return this.compiled.size[type]!(message, 0);
  }

  /** Writes a message at `start`, a multiple of 8; throws `message_invalid` for a value outside its type. */
  encode(type: number, message: M, views: Views, start: number): void {
    this.compiled.write[type]!(message, views, start);
  }

  /** Reads a message that fills `start` to `end`; throws `frame_malformed`, and never reads outside. */
  decode(type: number, views: Views, start: number, end: number): M {
    const read = this.compiled.read[type];
    if (read === undefined) malformed();
    const message = read(views, start, end);
    if (this.compiled.cursor() !== end) malformed();
    return message as M;
  }

  /** The message as its receiver would see it. */
  roundTrip(message: M): M {
    const type = this.typeOf(message);
    const bytes = this.sizeOf(type, message);
    const views = viewsOf(new ArrayBuffer((bytes + 7) & ~7));
    this.encode(type, message, views, 0);
    return this.decode(type, views, 0, bytes);
  }
}

/** The codec of a protocol, typed by its messages. */
export function compileCodec<P extends Protocol>(protocol: P): Codec<MessageOf<P>> {
  return new Codec<MessageOf<P>>(protocol);
}

function malformed(): never {
  throw new RuntimeError("frame_malformed", "A frame's bytes do not follow its schema.");
}

function invalid(field: string, value: unknown): never {
  throw new RuntimeError("message_invalid", `${field} can't carry ${String(value)}.`);
}

/** Below so many elements a loop beats `set` and `slice`. */
const FEW = 24;
const NO_U32 = new Uint32Array(0);
const NO_F32 = new Float32Array(0);

function put(view: Uint32Array | Float32Array, values: Uint32Array | Float32Array, at: number): void {
  if (values.length > FEW) view.set(values, at);
  else for (let i = 0; i < values.length; i++) view[at + i] = values[i]!;
}

function takeU32(view: Uint32Array, at: number, count: number): Uint32Array {
  if (count === 0) return NO_U32;
  if (count > FEW) return view.slice(at, at + count);
  const values = new Uint32Array(count);
  for (let i = 0; i < count; i++) values[i] = view[at + i]!;
  return values;
}

function takeF32(view: Float32Array, at: number, count: number): Float32Array {
  if (count === 0) return NO_F32;
  if (count > FEW) return view.slice(at, at + count);
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = view[at + i]!;
  return values;
}
