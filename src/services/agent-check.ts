/**
 * Checks one agent: whether it can be called, and whether its card is still the one that it serves. Where the card comes from
 * the server that tasks are sent to, fetching it is the check; else the interface is asked as well. The circuit breaker hears
 * nothing of it: that a server answers says little of whether it carries tasks, and what tasks have found out weighs more.
 */
import type { Logger } from "pino";
import { clip, SignalboxError } from "../domain/errors.ts";
import type { AgentHealthRepository } from "../store/agent-health-repository.ts";
import type { AgentRecord } from "../store/agent-repository.ts";
import { AgentCallError, type AgentConnector, type AgentProber } from "./agent-port.ts";
import type { CardRefresh } from "./card-refresh.ts";

/** Longest reason that is kept, in characters. */
const MAX_REASON = 512;

export interface AgentCheckDeps {
  repository: Pick<AgentHealthRepository, "record">;
  cardRefresh: CardRefresh;
  connector: Pick<AgentConnector, "pick"> & AgentProber;
  log: Logger;
  /** Longest wait for an agent, in milliseconds. */
  timeoutMs: number;
  /** Told of each check. */
  onCheck: (outcome: "passed" | "failed") => void;
  /** Told that an agent of a workspace is unhealthy now, or healthy again: this replica need not wait until it reads that. */
  onNews: (workspaceId: string) => Promise<void>;
}

/** Checks an agent and writes down what came of it. Rejects when that cannot be done, or when the signal aborts. */
export type AgentCheck = (agent: AgentRecord, signal: AbortSignal) => Promise<void>;

export function createAgentCheck(deps: AgentCheckDeps): AgentCheck {
  const { repository, cardRefresh, connector, log, timeoutMs, onCheck } = deps;

  /** The card that holds now, and what was odd about it; empty when nothing was. Throws when its server cannot be had. */
  async function refresh(agent: AgentRecord & { cardUrl: string }, signal: AbortSignal) {
    try {
      const card = await cardRefresh.refresh(agent, signal);
      if (card !== agent.card) log.info({ agentId: agent.agentId }, "an agent has another card");
      return { card, odd: "" };
    } catch (error) {
      if (!(error instanceof SignalboxError) || error.code !== "INVALID_ARGUMENT") throw error;
      // Somebody is there, and was fit for tasks as it said before. That its new card will not do is for its operator.
      log.warn({ err: error, agentId: agent.agentId }, "the card of an agent is not one that can be taken");
      return { card: agent.card, odd: `its card is not taken, and the one before stays: ${error.message}` };
    }
  }

  async function look(agent: AgentRecord, signal: AbortSignal): Promise<string> {
    const { cardUrl } = agent;
    // Where its card has changed, tasks go to what the new one says.
    const { card, odd } =
      cardUrl === undefined ? { card: agent.card, odd: "" } : await refresh({ ...agent, cardUrl }, signal);
    const used = connector.pick(card);
    if (cardUrl === undefined || URL.parse(cardUrl)?.origin !== (used && URL.parse(used.url)?.origin))
      await connector.probe({ ...agent, card }, { signal, timeoutMs });
    return odd;
  }

  return async (agent, signal) => {
    const { workspaceId, agentId } = agent;
    const late = AbortSignal.timeout(timeoutMs);
    let passed = true;
    let reason: string;
    try {
      reason = await look(agent, AbortSignal.any([signal, late]));
    } catch (error) {
      signal.throwIfAborted();
      if (!late.aborted && !isOfAgent(error)) throw error;
      passed = false;
      reason = late.aborted ? `there was no answer within ${timeoutMs} ms` : (error as Error).message;
      log.debug({ err: error, agentId, workspaceId }, "an agent failed its check");
    }
    onCheck(passed ? "passed" : "failed");
    const news = await repository.record({ workspaceId, agentId, passed, reason: clip(reason, MAX_REASON) });
    if (news === undefined) return;
    log.warn({ agentId, workspaceId, reason }, `an agent is ${news} now`);
    await deps.onNews(workspaceId);
  };
}

/** Whether it is the agent that failed, and not our database. */
const isOfAgent = (error: unknown): boolean =>
  error instanceof AgentCallError || (error instanceof SignalboxError && error.reason === "CARD_UNAVAILABLE");
