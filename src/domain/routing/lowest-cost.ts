/**
 * Lowest cost: greedy, which is optimal as long as no limit binds (the assignment problem without capacities splits into one
 * choice a task; Ahuja, Magnanti and Orlin, "Network Flows", 1993, chapter 12). Agents at the same price share by chance.
 */
import { quantity } from "./quantity.ts";
import type { Strategy } from "./strategy.ts";

/** What the task costs, in millionths of the workspace's currency. */
export const lowestCost: Strategy = (candidates) => candidates.map(({ costMicros }) => quantity(costMicros));
