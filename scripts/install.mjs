/**
 * Runs when the package is installed: compiles the native engine, as a clone's set-up does. Who wants the client of a
 * server alone needs no compiler: what goes wrong here does not fail the installation, and whoever starts an engine is
 * told how to compile it.
 */
import { isClone, SetUpError, setUp } from "./set-up.mjs";

if (!isClone) {
  try {
    await setUp();
  } catch (error) {
    if (!(error instanceof SetUpError)) throw error;
    process.stderr.write(`${error.output}\nstreamserve: installed without its engine: ${error.message}\n`);
  }
}
