/**
 * `npm test -- [arguments of vitest run]`: sets up what is missing, then runs the TypeScript tests and the
 * native unit tests. Both run even if the first fails, so that one run tells all.
 */
import { join } from "node:path";
import { orExplain, root, runShown, setUp } from "./set-up.mjs";

await orExplain(async () => {
  await setUp({ pull: [] });
  const vitest = join(root, "node_modules/vitest/vitest.mjs");
  const typescript = await runShown(process.execPath, [vitest, "run", ...process.argv.slice(2)]);
  const native = await runShown("make", ["-C", "src/native", "-s", "--no-print-directory", "test"]);
  process.exitCode = typescript === 0 && native === 0 ? 0 : 1;
});
