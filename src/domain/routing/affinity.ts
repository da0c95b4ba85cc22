/**
 * Affinity: what has the same key goes to the same agent. Rendezvous hashing (Thaler and Ravishankar, "Using name-based
 * mappings to increase hit rates", 1998) puts the agents in an order of the key's own, so an agent that goes leaves only its
 * keys to others, and one that comes takes only its share. Loads are bounded (Mirrokni, Thorup and Zadimoghaddam, "Consistent
 * hashing with bounded loads", 2018): an agent that has 1.25 times the average gives way to the next in the order.
 */
import { hashText, mix32 } from "./hash.ts";
import { quantity } from "./quantity.ts";
import type { Strategy } from "./strategy.ts";

/** How much more than the average an agent may have. Closer to 1 is more even, and moves more keys. */
const BOUND = 1.25;

/** The place of the agent in the key's order, from 0 to 1; 1 more for one that has as much as it may have. */
export const affinity: Strategy = (candidates, { key }) => {
  const hashOfKey = hashText(key);
  const most = mostInFlight(candidates.map(({ inFlight }) => quantity(inFlight)));
  return candidates.map(({ agentId, inFlight }) => {
    // FNV alone is not spread enough: ids that differ in their last letter only would lie beside each other.
    const place = mix32(hashOfKey ^ mix32(hashText(agentId))) / 2 ** 32;
    return quantity(inFlight) < most ? place : place + 1;
  });
};

/** What an agent may have in flight, the task that is to be given included: at least one agent has less. */
export const mostInFlight = (inFlight: readonly number[]): number =>
  Math.ceil((BOUND * (inFlight.reduce((sum, each) => sum + each, 0) + 1)) / inFlight.length);
