/** Whole engines on one database, and workspaces on them that lend each other agents. */
import { rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { type AgentCard, Role, SendMessageRequestSchema, type Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RegisterAgentRequestSchema } from "../../gen/signalbox/v1/registry_pb.ts";
import { loadConfig } from "../../src/config/load.ts";
import { type Engine, startEngine } from "../../src/engine.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import type { Database } from "../../src/store/database.ts";
import { createDatabase, pgliteDirectory, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

export const contextIn = (workspaceId: string): RequestContext => ({
  principal: {
    id: `user-of-${workspaceId}`,
    workspaceId,
    roles: new Set(),
    scopes: new Set(["*"]),
    authentication: "api-key",
    actors: [],
  },
  workspaceId,
  requestId: "request",
  signal: new AbortController().signal,
  extensions: [],
  traceparent: undefined,
  addressTarget: undefined,
  idempotencyKey: undefined,
  noStore: false,
  log: silent,
});

export interface GrantGiven {
  provider: string;
  consumer: string;
  agentId: string;
  alias?: string;
  capabilityId?: string;
  /** In milliseconds from now. */
  expiresInMs?: number;
  /** 1: offered, 2: accepted, 3: ended. */
  state?: 1 | 2 | 3;
}

let grants = 0;

/** Stores a grant past whoever offers and accepts them, and returns its id. */
export async function grant(db: Database, given: GrantGiven): Promise<string> {
  const id = `grant-${++grants}`;
  const { provider, consumer, agentId, alias = agentId, capabilityId, expiresInMs, state = 2 } = given;
  await raw(
    db,
    `insert into grants (provider_workspace_id, grant_id, consumer_workspace_id, agent_id, capability_id, alias_agent_id, state,
       created_at, expires_at, offered_by, accepted_at, accepted_by)
     values ($1, $2, $3, $4, $5, $6, $7, now(), clock_timestamp() + $8::float8 * interval '1 millisecond', 'x', now(), 'y')`,
    [provider, id, consumer, agentId, capabilityId ?? null, alias, state, expiresInMs ?? null],
  );
  return id;
}

export const revoke = (db: Database, grantId: string) =>
  raw(db, "update grants set state = 3, ended_at = now() where grant_id = $1", [grantId]);

export const addWorkspaces = (db: Database, ...ids: string[]) =>
  raw(db, "insert into workspaces (workspace_id) select unnest($1::text[]) on conflict do nothing", [ids]);

export interface LendingLab {
  readonly engine: Engine;
  /** As many as were asked for, the first one with them. */
  readonly engines: readonly Engine[];
  readonly db: Database;
  close(): Promise<void>;
}

export async function openLendingLab(
  backend: Database["backend"],
  { replicas = 1, flags = {} }: { replicas?: number; flags?: Record<string, string> } = {},
): Promise<LendingLab> {
  const database = backend === "postgres" ? await createDatabase() : undefined;
  const dataDir = database ? undefined : await pgliteDirectory();
  const where = database ? { "database.url": database.url } : { "data.dir": dataDir! };
  const config = loadConfig({
    flags: { ...where, "health.interval-ms": "0", "reputation.enforce": "false", ...flags },
    env: {},
    cwd: import.meta.dirname,
  });
  const engines: Engine[] = [];
  for (let i = 0; i < replicas; i++)
    engines.push(await startEngine({ config, log: silent, runtime: systemRuntime(), inProcess: new Map() }));
  const engine = engines[0]!;
  await addWorkspaces(engine.db, "lender", "borrower", "other");
  return {
    engine,
    engines,
    db: engine.db,
    async close() {
      for (const each of engines) await each.stop(0);
      await database?.drop();
      if (dataDir) await rm(dataDir, { recursive: true });
    },
  };
}

export const register = (
  { registry }: Engine,
  workspaceId: string,
  agentId: string,
  card: AgentCard,
  more: { maxConcurrency?: number } = {},
) =>
  registry.register(
    contextIn(workspaceId),
    create(RegisterAgentRequestSchema, { agentId, source: { case: "card", value: card }, ...more }),
  );

/** Sends a message as somebody of a workspace, and returns the task as it is then. */
export async function sendIn(
  { sender }: Engine,
  workspaceId: string,
  text: string,
  { tenant = "", taskId = "", wait = false }: { tenant?: string; taskId?: string; wait?: boolean } = {},
): Promise<Task> {
  const { payload } = await sender.send(
    contextIn(workspaceId),
    create(SendMessageRequestSchema, {
      tenant,
      message: {
        messageId: crypto.randomUUID(),
        role: Role.USER,
        taskId,
        parts: [{ content: { case: "text", value: text } }],
      },
      configuration: { returnImmediately: !wait },
    }),
  );
  if (payload.case !== "task") throw new Error(`a ${payload.case} came, and no task`);
  return payload.value;
}
