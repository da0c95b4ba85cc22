/**
 * The reputation of a workspace's agents, held for a moment: every message asks for it. Of what the database has, only what has
 * changed since is read again. What is asked of it is as of now: it fades without being read.
 */
import type { Access } from "../domain/capability.ts";
import { SignalboxError } from "../domain/errors.ts";
import { getOrMake } from "../domain/get-or-make.ts";
import { type BriefStanding, type StandingNow, standingAt } from "../domain/reputation/agent-standings.ts";
import { trustedInMs } from "../domain/reputation/standing.ts";
import type { TrustRule } from "../domain/reputation/trust-rule.ts";
import type { ReputationRepository } from "../store/reputation-repository.ts";
import { loadBriefly } from "./held-briefly.ts";
import type { Runtime } from "./runtime.ts";
import type { AskedOfTrust, Trust, TrustRules } from "./trust.ts";

/** How often everything is read anew, so that what was deleted is forgotten, in milliseconds. */
const WHOLE_LOAD_MS = 600_000;

export interface KnownStandingsDeps {
  readonly repository: Pick<ReputationRepository, "load">;
  readonly runtime: Pick<Runtime, "now" | "elapsedMs">;
  readonly rules: TrustRules;
  /** Whether agents that are not trusted get no tasks. */
  readonly enforces: boolean;
}

export interface KnownStandings extends Trust {
  /**
   * How an agent stands now. One of which nothing is known stands as a new one. As it was loaded last. Undefined where no reputation
   * is kept.
   */
  standing(workspaceId: string, agentId: string, capabilityId: string | undefined): StandingNow | undefined;
  /** Forgets that what is held is new, after a change. */
  changed(workspaceId: string): void;
  /** At most `most` of the agents that are held, each as a whole, those first that are trusted least. */
  leastTrusted(most: number): ({ workspaceId: string; agentId: string } & StandingNow)[];
}

/** What was loaded last of a workspace, by agent and capability. */
interface Held {
  wholeUntil: number;
  cursor: string | undefined;
  agents: Map<string, Map<string, BriefStanding>>;
}

export function createKnownStandings({ repository, runtime, rules, enforces }: KnownStandingsDeps): KnownStandings {
  const held = new Map<string, Held>();
  const nowMs = () => runtime.now().getTime();

  function load(workspaceId: string): Promise<void> | undefined {
    const rule = rules.load(workspaceId);
    const own = briefly.load(workspaceId);
    return rule && own ? Promise.all([rule, own]).then(() => {}) : (rule ?? own);
  }

  const briefly = loadBriefly(runtime, async (workspaceId, keeps) => {
    const now = runtime.elapsedMs();
    const place = getOrMake(held, workspaceId, (): Held => ({ wholeUntil: 0, cursor: undefined, agents: new Map() }));
    const isWhole = place.cursor === undefined || place.wholeUntil <= now;
    const { rows, cursor } = await repository.load(workspaceId, isWhole ? undefined : place.cursor);
    if (!keeps()) return;
    place.cursor = cursor;
    if (isWhole) {
      place.agents = new Map();
      place.wholeUntil = now + WHOLE_LOAD_MS;
    }
    for (const { agentId, capabilityId, standing } of rows) {
      getOrMake(place.agents, agentId, (): Map<string, BriefStanding> => new Map()).set(capabilityId, standing);
    }
  });

  const standing = (workspaceId: string, agentId: string, capabilityId: string | undefined): StandingNow =>
    standingAt(held.get(workspaceId)?.agents.get(agentId), capabilityId, nowMs(), rules.of(workspaceId));

  function refusal(asked: AskedOfTrust): SignalboxError | undefined {
    if (!enforces) return undefined;
    const { workspaceId, agentId, capabilityId, access } = asked;
    const rule = rules.of(workspaceId);
    const { trust } = standing(workspaceId, agentId, capabilityId);
    return trust >= thresholdOf(rule, access) ? undefined : notTrusted(asked, trust, rule);
  }

  return {
    load,
    standing,
    refusal,
    score: (workspaceId, agentId, capabilityId) =>
      held.get(workspaceId)?.agents.has(agentId) ? standing(workspaceId, agentId, capabilityId).score : undefined,
    changed: briefly.changed,
    leastTrusted(most) {
      const all = [...held].flatMap(([workspaceId, { agents }]) => {
        const rule = rules.of(workspaceId);
        return [...agents].map(([agentId, standings]) => ({
          workspaceId,
          agentId,
          ...standingAt(standings, undefined, nowMs(), rule),
        }));
      });
      return all.sort((a, b) => a.trust - b.trust || (a.agentId < b.agentId ? -1 : 1)).slice(0, most);
    },
  };
}

export const thresholdOf = ({ read, write }: TrustRule, access: Access): number => (access === "WRITE" ? write : read);

function notTrusted(
  { agentId, capabilityId, access, as }: AskedOfTrust,
  trust: number,
  rule: TrustRule,
): SignalboxError {
  const threshold = thresholdOf(rule, access);
  const backInMs = trustedInMs(trust, threshold, rule);
  const who = `Agent "${agentId}"${as === "caller" ? ", on whose behalf the task is sent," : ""}`;
  const forWhat = capabilityId === undefined ? "" : ` for capability "${capabilityId}"`;
  const back = backInMs === undefined ? "" : `Left alone, it is trusted again in ${inWords(backInMs)}. `;
  const remedy = `signalbox reputation set-trust ${agentId} ${threshold}${capabilityId === undefined ? "" : ` --capability ${capabilityId}`}`;
  return new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AGENT_NOT_TRUSTED",
    message: `${who} is not trusted enough${forWhat}: its trust is ${shown(trust)}, and ${access} needs ${threshold}. ${back}Somebody who knows better can say so: ${remedy}.`,
    metadata: {
      agentId,
      ...(capabilityId !== undefined && { capabilityId }),
      trust: String(trust),
      threshold: String(threshold),
      access,
      ...(backInMs !== undefined && { trustedInMs: String(backInMs) }),
    },
  });
}

/** Never rounded up: what is refused is not shown as what is enough. */
const shown = (trust: number): string => String(Math.floor(trust * 1000) / 1000);

function inWords(ms: number): string {
  if (ms < 120_000) return `${Math.ceil(ms / 1000)} s`;
  return ms < 7_200_000 ? `${Math.ceil(ms / 60_000)} min` : `${Math.ceil(ms / 3_600_000)} h`;
}
