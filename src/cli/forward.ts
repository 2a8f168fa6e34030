/** Commands whose options are their own: they live beside the parts that they drive. */

type Forwarded = (args: readonly string[]) => Promise<void>;

/** `streamserve bench`: compiled from bench/, which only a clone of the repository has. */
export async function bench(args: readonly string[]): Promise<void> {
  const module: { runBench: Forwarded } = await import(new URL("../bench/main.js", import.meta.url).href);
  await module.runBench(args);
}

/** `streamserve simulate`. */
export async function simulate(args: readonly string[]): Promise<void> {
  const module = await import("../simulate/main.js");
  await module.simulate(args);
}
