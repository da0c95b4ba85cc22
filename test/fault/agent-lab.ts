/** A whole server for tests with agents that fail, on PostgreSQL so that a test can look into its tables. */
import { clone } from "@bufbuild/protobuf";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import type { Binding } from "../agents/test-agent.ts";
import { startTestApp } from "../e2e/running-app.ts";
import { createDatabase, silent } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { checkLogs } from "./log-check.ts";
import { createPuppet, type Puppet } from "./puppet.ts";

/** Longest silence of an agent here, in milliseconds. */
export const TIMEOUT_MS = 500;

export interface AgentLab {
  readonly client: SignalboxClient;
  readonly logged: LogLines;
  /** The agent "puppet". */
  readonly puppet: Puppet;
  /** Registers a card under an id of its own. */
  register(card: AgentCard): Promise<string>;
  /** What the log keeps of the reason for a task's state, for operators. */
  causeOf(taskId: string): Promise<string>;
}

/**
 * Starts the server for all tests of a file. After each test no task may run, and after the last every log must be whole
 * and nothing unforeseen have been logged.
 */
export function useAgentLab(): AgentLab {
  const puppet = createPuppet();
  const logged = logLines();
  let started: Awaited<ReturnType<typeof start>>;
  let agents = 0;

  async function start() {
    const { url, drop } = await createDatabase();
    const app = await startTestApp({
      flags: {
        "database.url": url,
        "agent.timeout-ms": String(TIMEOUT_MS),
        "agent.away-ms": "2000",
        "task.silence-ms": "50",
        // Agents that are dead are asked as often as they would be, and no more slowly than at first.
        "task.retry-max-ms": "100",
      },
      agents: { puppet: puppet.handler },
      log: logged.log,
    });
    const db = openPostgres({ url, poolSize: 2, log: silent });
    return { app, db, drop, client: createSignalboxClient({ baseUrl: app.httpUrl }) };
  }

  beforeAll(async () => {
    started = await start();
  });
  afterEach(async () => {
    const metrics = await (await fetch(`${started.app.httpUrl}/metrics`)).text();
    expect(metrics).toMatch(/^signalbox_running_tasks 0$/m);
  });
  afterAll(async () => {
    const { app, db, drop } = started;
    await app.stop();
    await checkLogs(db);
    await db.close();
    await drop();
    expect(logged.lines.filter(({ level }) => level >= 50)).toEqual([]);
  });

  return {
    puppet,
    logged,
    get client() {
      return started.client;
    },
    async register(card) {
      const agentId = `agent-${++agents}`;
      await started.client.registry.registerAgent({ agentId, source: { case: "card", value: card } });
      return agentId;
    },
    async causeOf(taskId) {
      const text = "select cause from task_updates where task_id = $1 and cause is not null order by seq desc limit 1";
      const [row] = await started.db.query({ name: "cause", text }, [taskId]);
      return String(row?.cause);
    },
  };
}

/** The address of an interface on this machine. */
export const urlOf = (binding: Binding, port: number): string =>
  binding === "GRPC" ? `127.0.0.1:${port}` : `http://127.0.0.1:${port}`;

/** The port of a card's first interface. */
export const portOf = (card: AgentCard): number => Number(/:(\d+)/.exec(card.supportedInterfaces[0]!.url)![1]);

/** A card with its interfaces at another port. */
export function through(card: AgentCard, port: number): AgentCard {
  const moved = clone(AgentCardSchema, card);
  for (const offered of moved.supportedInterfaces) offered.url = offered.url.replace(/:\d+/, `:${port}`);
  return moved;
}
