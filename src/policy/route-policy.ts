/**
 * How a pair is chosen: `flowguard`, or what is usual elsewhere, to compare with. `random`; `round-robin`;
 * `least-loaded`: fewest requests in the pair's lanes; `prefix`: the longest cached prefix, round robin among equals.
 */
export const ROUTE_POLICIES = ["flowguard", "round-robin", "random", "least-loaded", "prefix"] as const;
export type RoutePolicy = (typeof ROUTE_POLICIES)[number];
