import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ERROR_CODES } from "../dist/errors.js";

/** docs/protocol.md and the code say the same of every error. */

const text = readFileSync(new URL("../docs/protocol.md", import.meta.url), "utf8");

test("every error code is documented", () => {
  const missing = Object.keys(ERROR_CODES).filter((code) => !text.includes(`\`${code}\``));
  expect(missing).toEqual([]);
});

test("the document's HTTP statuses are those the server answers with", () => {
  const rows = [...text.matchAll(/^\| ((?:`\w+`(?:, )?)+) \| (\d{3}) \|/gm)];
  expect(rows.length).toBeGreaterThan(15);
  for (const [, codes = "", status] of rows) {
    for (const [, code = ""] of codes.matchAll(/`(\w+)`/g)) {
      expect([code, ERROR_CODES[code as keyof typeof ERROR_CODES]]).toEqual([code, Number(status)]);
    }
  }
});
