import type { RouterConfig } from "./simulate.js";

/** FlowGuard, and what is usual elsewhere. */
export const ROUTERS: readonly { readonly name: string; readonly router: RouterConfig }[] = [
  { name: "FlowGuard", router: {} },
  { name: "static roles", router: { roles: "static" } },
  { name: "round robin", router: { policy: "round-robin" } },
  { name: "random", router: { policy: "random" } },
  { name: "least loaded", router: { policy: "least-loaded" } },
  { name: "prefix only", router: { policy: "prefix" } },
];
