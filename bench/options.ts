import { type Command, InvalidArgumentError, Option } from "commander";
import { BenchError } from "./bench-error.js";

/** Parsers of option values: commander turns what they throw into one line and exit code 1. */

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < least || value > most) {
      throw new InvalidArgumentError(`Give a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

export function positiveNumber(most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value > 0 && value <= most)) {
      throw new InvalidArgumentError(`Give a number above 0, at most ${most}.`);
    }
    return value;
  };
}

export function wholeNumbers(least: number, most: number): (text: string) => number[] {
  const one = wholeNumber(least, most);
  return (text) => text.split(",").map(one);
}

/** Every measuring command can leave its report as JSON. */
export function withJson(command: Command): Command {
  return command.option(
    "--json <file>",
    'write the report as JSON to this file; "-": to standard output alone',
  );
}

export function choice(flags: string, description: string, values: readonly string[]): Option {
  return new Option(flags, description).choices(values);
}

/** Those of `all` whose names hold one of `texts`; all without texts. Throws BenchError for a text in none. */
export function chosenByName<T>(
  all: readonly T[],
  nameOf: (item: T) => string,
  texts: readonly string[] | undefined,
): T[] {
  const lost = texts?.find((text) => !all.some((item) => nameOf(item).includes(text)));
  if (lost !== undefined) {
    throw new BenchError(`No workload's name holds "${lost}": ${all.map(nameOf).join("; ")}.`);
  }
  return all.filter((item) => texts === undefined || texts.some((text) => nameOf(item).includes(text)));
}
