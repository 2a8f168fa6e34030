/** How text between special tokens becomes ids. One model belongs to one thread. */
export interface TextModel {
  /** Whether text may be cut between a character that is no space and a space: the parts' ids are the whole's. */
  readonly cutsAtSpaces: boolean;
  /** Ids of a stretch of text; `first` when it begins the text or follows a special token. */
  encode(text: string, first: boolean): Iterable<number>;
  /** The first character of the text that the vocabulary has no tokens for. */
  inexpressible(text: string): PlacedCharacter | undefined;
}

export interface PlacedCharacter {
  readonly character: string;
  /** In UTF-16 units. */
  readonly index: number;
}
