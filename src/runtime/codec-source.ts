import { RuntimeError } from "./runtime-error.js";
import type { Field, FieldKind, Protocol, Shape } from "./schema.js";

/**
 * Writes the source of a protocol's codec: for every shape one function each that measures, writes and reads
 * it, with all offsets as constants. A value's layout: fixed fields by falling alignment, then the variable
 * fields in declared order, each aligned to its elements; their counts are among the fixed fields.
 */

const FIXED: Readonly<Record<FieldKind, { readonly bytes: number; readonly align: number }>> = {
  f64: { bytes: 8, align: 8 },
  u32: { bytes: 4, align: 4 },
  i32: { bytes: 4, align: 4 },
  f32: { bytes: 4, align: 4 },
  slab: { bytes: 12, align: 4 },
  text: { bytes: 4, align: 4 },
  u32s: { bytes: 4, align: 4 },
  f32s: { bytes: 4, align: 4 },
  list: { bytes: 4, align: 4 },
  u8: { bytes: 1, align: 1 },
  bool: { bytes: 1, align: 1 },
};

interface Placed {
  readonly name: string;
  readonly field: Field<unknown>;
  readonly offset: number;
  /** Number of the element's shape, for `list`. */
  readonly element: number;
}

interface Layout {
  readonly fields: readonly Placed[];
  readonly bytes: number;
  readonly align: number;
}

/** Message types on the wire are numbered from 0; the ring keeps the last 16-bit number for itself. */
const MOST_MESSAGES = 0xffff;

export interface CodecSource {
  readonly code: string;
  /** Message names in wire order; shape `i` belongs to message `i`. */
  readonly names: readonly string[];
}

export function codecSource(protocol: Protocol): CodecSource {
  const names = Object.keys(protocol);
  if (names.length >= MOST_MESSAGES) fail(`a protocol holds at most ${MOST_MESSAGES - 1} messages`);
  const layouts: Layout[] = names.map(() => ({ fields: [], bytes: 0, align: 1 }));
  const functions: string[] = [];

  const place = (path: string, shape: Shape): Layout => {
    const entries = Object.entries(shape);
    for (const [name, field] of entries) {
      if (!/^[A-Za-z][A-Za-z0-9_]*$/.test(name) || name === "type")
        fail(`${path}: "${name}" can't be a field`);
      if (!Object.hasOwn(FIXED, field.kind)) fail(`${path}.${name}: unknown kind "${field.kind}"`);
    }
    const order = [...entries].sort(([, a], [, b]) => FIXED[b.kind].align - FIXED[a.kind].align);
    const offsets = new Map<string, number>();
    let bytes = 0;
    for (const [name, field] of order) {
      offsets.set(name, bytes);
      bytes += FIXED[field.kind].bytes;
    }
    let align = order.length === 0 ? 1 : FIXED[order[0]![1].kind].align;
    const fields = entries.map(([name, field]) => {
      let element = -1;
      if (field.kind === "list") {
        const elementShape = field.element ?? {};
        if (Object.keys(elementShape).length === 0) fail(`${path}.${name}: a list's element needs a field`);
        element = layouts.push({ fields: [], bytes: 0, align: 1 }) - 1;
        layouts[element] = place(`${path}.${name}[]`, elementShape);
        functions[element] = emit(`${path}.${name}[]`, element, layouts, undefined);
        align = Math.max(align, layouts[element]!.align);
      }
      return { name, field, offset: offsets.get(name)!, element };
    });
    return { fields, bytes, align };
  };

  for (const [index, name] of names.entries()) {
    layouts[index] = place(name, protocol[name]!);
    functions[index] = emit(name, index, layouts, name);
  }
  const table = (letter: string) => `[${names.map((_, index) => letter + index).join(",")}]`;
  return {
    names,
    code: `"use strict";let cursor=0;${functions.join("\n")}
return {size:${table("s")},write:${table("w")},read:${table("r")},cursor:()=>cursor};`,
  };
}

function fail(what: string): never {
  throw new RuntimeError("schema_invalid", `Invalid message schema: ${what}.`);
}

function emit(path: string, index: number, layouts: readonly Layout[], type: string | undefined): string {
  const { fields, bytes } = layouts[index]!;
  const size: string[] = [];
  const write: string[] = [];
  const read: string[] = [];
  for (const [i, placed] of fields.entries()) {
    const source = SOURCES[placed.field.kind];
    const slot: Slot = {
      value: `m.${placed.name}`,
      name: JSON.stringify(`${path}.${placed.name}`),
      local: `x${i}`,
      at: `p+${placed.offset}`,
      element: placed.element,
      elementAlign: layouts[placed.element]?.align ?? 1,
      elementBytes: layouts[placed.element]?.bytes ?? 0,
    };
    if (source.size !== undefined) size.push(source.size(slot));
    write.push(source.write(slot));
    read.push(source.read(slot));
  }
  const properties = fields.map((placed, i) => `${placed.name}:x${i}`);
  if (type !== undefined) properties.unshift(`type:${JSON.stringify(type)}`);
  return `
function s${index}(m,n){n+=${bytes};${size.join("")}return n}
function w${index}(m,v,p){${HOIST}let n=p+${bytes};${write.join("")}return n}
function r${index}(v,p,end){let n=p+${bytes};if(n>end)malformed();${HOIST}${read.join("")}cursor=n;return {${properties.join(",")}}}`;
}

/** Views are loaded once a call, not once a field. */
const HOIST = "const {u8,u32,i32,f32,f64,bytes}=v;";

interface Slot {
  readonly value: string;
  readonly name: string;
  readonly local: string;
  readonly at: string;
  readonly element: number;
  readonly elementAlign: number;
  readonly elementBytes: number;
}

interface Source {
  readonly size?: (slot: Slot) => string;
  readonly write: (slot: Slot) => string;
  readonly read: (slot: Slot) => string;
}

const padTo = (align: number) => (align === 1 ? "" : `n=(n+${align - 1})&${-align};`);

function integer(view: string, shift: number, test: string): Source {
  const index = (at: string) => (shift === 0 ? at : `(${at})>>>${shift}`);
  return {
    write: ({ value, name, local, at }) =>
      `const ${local}=${value};if(${test.replaceAll("x", local)})invalid(${name},${local});${view}[${index(at)}]=${local};`,
    read: ({ local, at }) => `const ${local}=${view}[${index(at)}];`,
  };
}

function numbers(view: string, take: string, array: string): Source {
  return {
    size: ({ value, name }) =>
      `if(!(${value} instanceof ${array}))invalid(${name},${value});${padTo(4)}n+=${value}.length*4;`,
    write: ({ value, local, at }) =>
      `const ${local}=${value};u32[(${at})>>>2]=${local}.length;${padTo(4)}put(${view},${local},n>>>2);n+=${local}.length*4;`,
    read: ({ local, at }) =>
      `const ${local}n=u32[(${at})>>>2];${padTo(4)}if(n>end||${local}n>(end-n)>>>2)malformed();` +
      `const ${local}=${take}(${view},n>>>2,${local}n);n+=${local}n*4;`,
  };
}

const SOURCES: Readonly<Record<FieldKind, Source>> = {
  u8: integer("u8", 0, "(x&255)!==x"),
  u32: integer("u32", 2, "(x>>>0)!==x"),
  i32: integer("i32", 2, "(x|0)!==x"),
  f32: integer("f32", 2, 'typeof x!=="number"'),
  f64: integer("f64", 3, 'typeof x!=="number"'),
  bool: {
    write: ({ value, name, local, at }) =>
      `const ${local}=${value};if(typeof ${local}!=="boolean")invalid(${name},${local});u8[${at}]=${local}?1:0;`,
    read: ({ local, at }) =>
      `const ${local}b=u8[${at}];if(${local}b>1)malformed();const ${local}=${local}b===1;`,
  },
  slab: {
    write: ({ value, name, local, at }) =>
      `const ${local}=${value},${local}i=(${at})>>>2;` +
      `if(${["slab", "offset", "bytes"].map((key) => `(${local}.${key}>>>0)!==${local}.${key}`).join("||")})invalid(${name},${local});` +
      `u32[${local}i]=${local}.slab;u32[${local}i+1]=${local}.offset;u32[${local}i+2]=${local}.bytes;`,
    read: ({ local, at }) =>
      `const ${local}i=(${at})>>>2,${local}={slab:u32[${local}i],offset:u32[${local}i+1],bytes:u32[${local}i+2]};`,
  },
  text: {
    size: ({ value, name }) =>
      `if(typeof ${value}!=="string")invalid(${name},${value});n+=byteLength(${value});`,
    write: ({ value, local, at }) =>
      `const ${local}=bytes.write(${value},n,"utf8");u32[(${at})>>>2]=${local};n+=${local};`,
    read: ({ local, at }) =>
      `const ${local}n=u32[(${at})>>>2];if(n>end||${local}n>end-n)malformed();` +
      `const ${local}=${local}n===0?"":bytes.toString("utf8",n,n+${local}n);n+=${local}n;`,
  },
  u32s: numbers("u32", "takeU32", "Uint32Array"),
  f32s: numbers("f32", "takeF32", "Float32Array"),
  list: {
    size: ({ value, name, element, elementAlign }) =>
      `if(!Array.isArray(${value}))invalid(${name},${value});` +
      `for(const e of ${value}){${padTo(elementAlign)}n=s${element}(e,n);}`,
    write: ({ value, local, at, element, elementAlign }) =>
      `const ${local}=${value};u32[(${at})>>>2]=${local}.length;` +
      `for(const e of ${local}){${padTo(elementAlign)}n=w${element}(e,v,n);}`,
    read: ({ local, at, element, elementAlign, elementBytes }) =>
      `const ${local}n=u32[(${at})>>>2];if(n>end||${local}n*${elementBytes}>end-n)malformed();` +
      `const ${local}=[];for(let i=0;i<${local}n;i++){${padTo(elementAlign)}${local}.push(r${element}(v,n,end));n=cursor;}`,
  },
};
