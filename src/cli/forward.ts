/** Commands whose options are their own: they live beside the parts that they drive. */

type Forwarded = (args: readonly string[]) => Promise<void>;

/** `streamserve bench`: compiled from bench/, which only a clone of the repository has. */
export async function bench(args: readonly string[]): Promise<void> {
  const module: { runBench: Forwarded } = await import(besides("bench"));
  await module.runBench(args);
}

/** `streamserve simulate`. */
export async function simulate(args: readonly string[]): Promise<void> {
  const module: { simulate: Forwarded } = await import(besides("simulate"));
  await module.simulate(args);
}

/** By a URL, which a bundler leaves alone: these start threads of their own, from files. */
function besides(directory: string): string {
  return new URL(`../${directory}/main.js`, import.meta.url).href;
}
