import type * as z from "zod";
import { type ErrorCode, StreamServeError } from "../errors.js";

/** Checks `value`; throws `invalid_parameter` (or the code a check names) with the field in `details.param`. */
export function check<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw asError(result.error.issues[0]!);
}

function asError(issue: z.core.$ZodIssue): StreamServeError {
  if (issue.code === "unrecognized_keys") {
    const param = join([...issue.path, issue.keys[0] ?? ""]);
    return refuse(param, `'${param}' is not a parameter of this request: remove it or mend its name.`);
  }
  const param = join(issue.path);
  if (param === "")
    return new StreamServeError("invalid_request", `The request is not valid: ${sentence(issue)}`);
  const code = issue.code === "custom" ? (issue.params?.code as ErrorCode | undefined) : undefined;
  return refuse(param, `'${param}' is not valid: ${sentence(issue)}`, code);
}

/** An error about one field. */
export function refuse(
  param: string,
  message: string,
  code: ErrorCode = "invalid_parameter",
  details: Readonly<Record<string, number | string>> = {},
): StreamServeError {
  return new StreamServeError(code, message, { param, ...details });
}

function sentence(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_key" && issue.issues[0] !== undefined) return sentence(issue.issues[0]);
  const text = issue.message.replace(/^(Invalid input|Too small|Too big|Invalid option): /, "");
  return text.endsWith(".") ? text : `${text}.`;
}

function join(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === "number" ? `[${part}]` : `${i > 0 ? "." : ""}${String(part)}`))
    .join("");
}
