import { defineConfig } from "vitest/config";

/**
 * Tests import the compiled code in dist/, because worker threads need files to run. One file at a time: a
 * test of the real engine takes every core, and a second beside it would only make its waits longer.
 */
export default defineConfig({
  test: {
    include: ["test/*.test.ts"],
    fileParallelism: false,
    /** Loading a model and prefilling a long prompt on two shared cores takes seconds. */
    testTimeout: 60_000,
    hookTimeout: 60_000,
    /** What is waited for comes within milliseconds, but for a machine that is busy with something else. */
    expect: { poll: { timeout: 15_000 } },
    /** A worker thread that was not stopped must not hold up the run for ever. */
    teardownTimeout: 10_000,
    reporters: process.env.STREAMSERVE_TEST_REPORT
      ? ["default", ["json", { outputFile: process.env.STREAMSERVE_TEST_REPORT }]]
      : ["default"],
  },
});
