/**
 * Folds what became of tasks into the reputation of their agents. It reads the logs as they were committed, in their one order, and
 * its cursor moves in the transaction that changes the standings: each outcome counts once, whoever dies when.
 */
import { foldOutcome } from "../../domain/reputation/agent-standings.ts";
import { type Outcome, outcomeOf, type SlaOf } from "../../domain/reputation/outcome.ts";
import type { TaskEnding } from "../../store/ending-reads.ts";
import type { ChangingAgent, ReputationRepository } from "../../store/reputation-repository.ts";
import type { AgentDirectory, WorkspaceAgents } from "../agent-directory.ts";
import { whenDatabaseAnswers } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";
import type { TrustRules } from "../trust.ts";
import type { Duty } from "./outbox.ts";

/** So long outcomes are gathered: replicas see them within a second anyway. */
const REST_MS = 200;
/** Of its cursor. */
export const REPUTATION_DUTY = "reputation";

export interface ReputationDutyDeps {
  readonly repository: Pick<ReputationRepository, "endings" | "fold">;
  readonly directory: Pick<AgentDirectory, "agents">;
  readonly rules: TrustRules;
  readonly runtime: Runtime;
  /** Told what ends of tasks said of their agents, once they count. */
  readonly onOutcomes: (counts: OutcomeCounts) => void;
}

/** How many ends of tasks were good and bad for their agents, and how many said nothing of them. */
export interface OutcomeCounts {
  good: number;
  bad: number;
  neutral: number;
}

/** One agent, and what became of its tasks, in order. */
interface Group extends ChangingAgent {
  readonly outcomes: Outcome[];
}

export function createReputationDuty(deps: ReputationDutyDeps): Duty {
  const { repository, directory, rules, runtime } = deps;

  async function groupsOf(endings: readonly TaskEnding[], counts: OutcomeCounts): Promise<Group[]> {
    const slas = new Map<string, SlaOf>();
    for (const { workspaceId } of endings) {
      if (slas.has(workspaceId)) continue;
      await rules.load(workspaceId);
      slas.set(workspaceId, slaOfAgents(await directory.agents(workspaceId)));
    }
    const groups = new Map<string, Group>();
    for (const ending of endings) {
      const { workspaceId } = ending;
      const outcome = outcomeOf(ending, slas.get(workspaceId)!);
      counts[!outcome ? "neutral" : outcome.isGood ? "good" : "bad"] += 1;
      if (!outcome) continue;
      const { agentId } = outcome;
      const key = `${workspaceId} ${agentId}`;
      const group = groups.get(key) ?? { workspaceId, agentId, outcomes: [] };
      groups.set(key, group);
      group.outcomes.push(outcome);
    }
    return [...groups.values()].map((group) => ({
      ...group,
      capabilityIds: [...new Set(group.outcomes.flatMap(({ capabilityId }) => capabilityId ?? []))],
    }));
  }

  return {
    name: REPUTATION_DUTY,
    topic: "endings",
    restMs: REST_MS,
    async handle(rows, signal, place) {
      const query = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, signal, work);
      const counts: OutcomeCounts = { good: 0, bad: 0, neutral: 0 };
      const groups = await query(async () => groupsOf(await repository.endings(rows), resetted(counts)));
      const outcomesOf = new Map(groups.map((group) => [group as ChangingAgent, group.outcomes]));
      const isDone = await query(() =>
        repository.fold({ duty: REPUTATION_DUTY, ...place }, groups, (agent, standings) => {
          const rule = rules.of(agent.workspaceId);
          const changed = outcomesOf.get(agent)!.flatMap((outcome) => foldOutcome(standings, outcome, rule));
          return new Set(changed);
        }),
      );
      if (isDone) deps.onOutcomes(counts);
      return isDone;
    },
  };
}

/** For another try. */
const resetted = (counts: OutcomeCounts): OutcomeCounts => Object.assign(counts, { good: 0, bad: 0, neutral: 0 });

const slaOfAgents =
  ({ capabilities }: Pick<WorkspaceAgents, "capabilities">): SlaOf =>
  (agentId, capabilityId) =>
    capabilities.get(agentId)?.find((each) => each.capabilityId === capabilityId)?.maxLatencyMs;
