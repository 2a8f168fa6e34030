import type { Attachment, Notice } from "./setup.js";

/** One life of an actor, on whatever thread. */
export interface Incarnation {
  /** What its behaviour says of itself; undefined if it ends before it answers. */
  inspect(): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** Drains the mailbox and ends. */
  stop(): void;
  attach(attachment: Attachment): void;
  notice(notice: Notice): void;
  /** Ends it at once, whatever it is doing. */
  kill(): void;
  /** Settles when it has ended: with what it failed with, or undefined if it was stopped or killed. */
  readonly ended: Promise<Error | undefined>;
}
