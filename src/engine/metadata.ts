import { type MetadataValue, type NativeMetadataValue, native } from "./native-addon.js";
import { isPackedStrings, type PackedStrings, unpackStrings } from "./packed-strings.js";

export type { MetadataValue };

/** Values by key; lists of strings may be packed. */
export type Metadata = ReadonlyMap<string, MetadataValue | PackedStrings>;

/** One tensor of a model. */
export interface TensorDescription {
  readonly name: string;
  /** GGUF's name of the format, e.g. "Q4_1"; "type 77" when it has no such number. */
  readonly format: string;
  /** Extents, innermost first. */
  readonly shape: readonly number[];
  /** Bytes it takes in the file; 0 for formats whose size is not known here. */
  readonly bytes: number;
}

export interface GgufHeader<Value = MetadataValue> {
  /** GGUF's version; 0 for safetensors. */
  readonly version: number;
  readonly metadata: ReadonlyMap<string, Value>;
  /** Key -> GGUF's type number, which a value alone does not tell. */
  readonly types: ReadonlyMap<string, number>;
  readonly tensors: readonly TensorDescription[];
}

/**
 * Reads the headers of a model: of a GGUF file (versions 2 and 3) tokenizer, chat template, hyper-parameters and tensor
 * list; of a safetensors model the latter two, under GGUF's names.
 * Every length is checked; weights are not read. Throws `model_not_found`, `model_file_truncated` or
 * `model_file_invalid`.
 */
export function readMetadata(path: string): GgufHeader {
  const header = readPackedMetadata(path);
  const plain = (value: NativeMetadataValue): MetadataValue =>
    isPackedStrings(value) ? unpackStrings(value) : value;
  return {
    ...header,
    metadata: new Map([...header.metadata].map(([key, value]) => [key, plain(value)])),
  };
}

/** The same with lists of strings left packed, as long vocabularies had better be. */
export function readPackedMetadata(path: string): GgufHeader<NativeMetadataValue> {
  const header = native((addon) => addon.readMetadata(path));
  return {
    version: header.version,
    metadata: new Map(header.entries.map(([key, value]) => [key, value])),
    types: new Map(header.entries.map(([key, , type]) => [key, type])),
    tensors: header.tensors.map(([name, format, shape, bytes]) => ({ name, format, shape, bytes })),
  };
}
