/** What the doors need to know of a model besides its weights: how text becomes tokens and back. */

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant" | "tool";
  readonly content: string;
}

/** Turns text into token ids. Encoding runs in a worker pool; decoding is a table look-up on the caller's thread. */
export interface TextCodec {
  /** Ids of raw text; `special` says whether text such as `<|im_end|>` becomes the special token. */
  encode(text: string, special: boolean): Promise<Uint32Array>;
  /** Renders the model's chat template with a generation prompt, then encodes with special tokens. */
  encodeChat(messages: readonly ChatMessage[]): Promise<Uint32Array>;
  /** The bytes of a token; special tokens give none. A token may end inside a UTF-8 sequence. */
  tokenBytes(id: number): Uint8Array;
  /** The token's own text, specials included, for log-probabilities. */
  tokenText(id: number): string;
  readonly vocabulary: number;
  /** Tokens that end a turn: end of sequence, end of turn. */
  readonly stopIds: readonly number[];
  close(): Promise<void>;
}
