/** What stands for reputation on a server that keeps none. */
import { SignalboxError } from "../domain/errors.ts";
import type { KnownStandings } from "./known-standings.ts";
import type { Reputations } from "./reputations.ts";
import { trustAll } from "./trust.ts";

/** All are trusted, and nothing is known of anybody. */
export const noReputation: KnownStandings = {
  ...trustAll,
  standing: () => undefined,
  changed() {},
  leastTrusted: () => [],
};

/** Whoever asks is told so. */
export const noReputations: Reputations = { get: refuse, list: refuse, report: refuse, setTrust: refuse };

async function refuse(): Promise<never> {
  throw new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "REPUTATION_DISABLED",
    message:
      "This server keeps no reputation of agents, and trusts them all. Its operator can change that: reputation.enabled.",
  });
}
