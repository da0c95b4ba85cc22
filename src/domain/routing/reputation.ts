/**
 * Reputation: the agent that is trusted most. A reputation is read as the expected share of tasks done well, and a new agent
 * has 0.5, the mean of a uniform prior (Jøsang and Ismail, "The beta reputation system", 2002).
 */
import type { Candidate } from "./candidate.ts";
import { share } from "./quantity.ts";
import type { Strategy } from "./strategy.ts";

const OF_A_NEW_AGENT = 0.5;

/** 1 - reputation. */
export const reputation: Strategy = (candidates) => candidates.map(distrust);

/** From 0, fully trusted, to 1. */
export const distrust = (candidate: Candidate): number => share(1 - (candidate.reputation ?? OF_A_NEW_AGENT));
