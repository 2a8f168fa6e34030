import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

/** The package as programs import it, by its name. */

test("its doors share one set of classes", async () => {
  const program = `
    import { StreamServeError } from "streamserve";
    import { StreamServeClient } from "streamserve/client";
    import { ActorSystem } from "streamserve/runtime";
    const refused = await StreamServeClient.connect("ws://127.0.0.1:1/v1/stream").catch((error) => error);
    console.log(refused instanceof StreamServeError, refused.code, typeof ActorSystem.start);`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], {
    cwd: fileURLToPath(new URL("..", import.meta.url)),
  });
  expect(stdout).toBe("true connection_failed function\n");
});
