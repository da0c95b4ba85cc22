/**
 * Has every agent checked from time to time. Which checks are due stands in the database, and a replica takes some of them as
 * long as it has places free: so each agent is checked by one replica an interval, however many there are, and what a replica
 * has taken when it dies is due again an interval later.
 */
import type { Logger } from "pino";
import type { AgentHealthRepository } from "../../store/agent-health-repository.ts";
import type { AgentRecord } from "../../store/agent-repository.ts";
import type { AgentCheck } from "../agent-check.ts";
import { whenDatabaseAnswers } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";
import { createAlarm } from "./alarm.ts";

/** Agents that are checked at once. */
const PLACES = 64;
/** Longest and shortest pause between two looks for what is due, in milliseconds. */
const POLL_MS = 1_000;
const REST_MS = 50;

export interface AgentChecksDeps {
  repository: Pick<AgentHealthRepository, "claimDue" | "untilDue">;
  check: AgentCheck;
  runtime: Runtime;
  log: Logger;
  /** How often each agent is checked, in milliseconds. */
  intervalMs: number;
}

export interface AgentChecks {
  /** Gives up what is under way and waits for it. */
  stop(): Promise<void>;
}

export function startAgentChecks({ repository, check, runtime, log, intervalMs }: AgentChecksDeps): AgentChecks {
  const stop = new AbortController();
  const { signal } = stop;
  const alarm = createAlarm();
  const underWay = new Set<Promise<void>>();
  let isCrowded = false;

  const query = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, signal, work);

  async function checkOne(agent: AgentRecord): Promise<void> {
    try {
      await check(agent, signal);
    } catch (error) {
      const { workspaceId, agentId } = agent;
      if (!signal.aborted) log.warn({ err: error, agentId, workspaceId }, "an agent could not be checked");
    }
  }

  async function takeDue(): Promise<void> {
    const free = PLACES - underWay.size;
    const due = free > 0 ? await query(() => repository.claimDue(free, intervalMs)) : [];
    isCrowded = due.length === free;
    for (const agent of due) {
      const done = checkOne(agent).finally(() => {
        underWay.delete(done);
        if (isCrowded) alarm.ring();
      });
      underWay.add(done);
    }
  }

  async function keepChecking(): Promise<void> {
    while (!signal.aborted) {
      try {
        await takeDue();
        const dueInMs = isCrowded ? POLL_MS : await query(() => repository.untilDue(POLL_MS));
        await alarm.sleep(Math.max(REST_MS, dueInMs), signal);
      } catch (error) {
        if (signal.aborted) return;
        log.error({ err: error }, "agents could not be checked; trying again");
        await runtime.wait(POLL_MS, signal).catch(() => {});
      }
    }
  }

  const checking = keepChecking();
  return {
    async stop() {
      stop.abort();
      await checking;
      await Promise.all(underWay);
    },
  };
}
