/** On what terms results of a capability are kept: what all who offer it allow, and until they change. */
import { createHash } from "node:crypto";
import type { Offer } from "./agent-directory.ts";

export interface ResultTerms {
  /** How long a result may be given again, in milliseconds; 0: never. */
  readonly ttlMs: number;
  /** Whether it may be given to other principals. */
  readonly isShared: boolean;
  /** Another one when any of the agents has changed, or what it offers, or who offers it. */
  readonly generation: string;
}

/** A list of offers is the same object for as long as nothing in its workspace has changed. */
const known = new WeakMap<readonly Offer[], ResultTerms>();

/** The terms for a capability that these, and no others, offer. */
export function resultTerms(offers: readonly Offer[]): ResultTerms {
  const before = known.get(offers);
  if (before) return before;
  const terms = {
    ttlMs: Math.min(...offers.map(({ capability }) => capability.cacheTtlMs)),
    isShared: offers.every(({ capability }) => capability.cacheShared),
    generation: generationOf(offers),
  };
  known.set(offers, terms);
  return terms;
}

function generationOf(offers: readonly Offer[]): string {
  const facts = offers.map(({ agent: { agentId, createdAt, revision, home }, version }) => [
    agentId,
    createdAt.getTime(),
    revision,
    version,
    ...(home ? [home.workspaceId, home.agentId] : []),
  ]);
  return createHash("sha256").update(JSON.stringify(facts)).digest("base64url");
}
