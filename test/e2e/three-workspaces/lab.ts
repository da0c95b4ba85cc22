/** Servers on one database, three workspaces with people and agents of the same names, and the ways of each of them to call. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { JsonValue } from "@bufbuild/protobuf";
import { TaskService } from "../../../gen/signalbox/v1/task_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../../src/sdk/client.ts";
import type { Database } from "../../../src/store/database.ts";
import { openDatabase } from "../../../src/store/open-database.ts";
import { openPostgres } from "../../../src/store/postgres.ts";
import type { Client } from "../../conformance/bindings/binding.ts";
import { createDatabase, silent } from "../../store/backends.ts";
import { raw } from "../../store/tables.ts";
import { WAYS, type Way } from "../all-rpcs.ts";
import { startTestApp, type TestApp } from "../running-app.ts";
import { agentOf, cardOf, placeOf } from "./agents.ts";
import { memberOf, policyOf, spareOf } from "./calls.ts";
import type { Made } from "./run.ts";
import { Seen } from "./seen.ts";
import type { Marked } from "./workspace-rows.ts";

const ROOT = `sbx_root_${randomBytes(32).toString("hex")}`;

export const WORKSPACES: readonly Marked[] = ["a", "b", "c"].map((letter) => ({
  workspaceId: `space-${letter}`,
  mark: `ws-${letter}-7f3`,
  agentMark: `agent-${letter}-7f3`,
}));

/** Who is in each workspace, by the id of the principal. */
const PEOPLE = {
  admin: { roles: ["admin"] },
  operator: { roles: ["operator"] },
  "caller-1": { roles: ["caller"] },
  "caller-2": { roles: ["caller"] },
  agent: { roles: ["agent"], agentId: "echo" },
  viewer: { roles: ["viewer"] },
} as const;

export const PRINCIPALS: readonly string[] = Object.keys(PEOPLE);

export interface Server {
  readonly app: TestApp;
  readonly ways: readonly { readonly way: Way; readonly client: Client }[];
}

export interface Lab {
  readonly servers: readonly Server[];
  /** The owner of the tables. */
  readonly db: Database;
  /** Keys of somebody of a workspace. */
  token(workspaceId: string, principalId: string): string;
  /** Keys that the people of the workspaces need: none of theirs is rotated or revoked by themselves. */
  readonly needed: ReadonlySet<string>;
  readonly seen: Seen;
  hookUrl(workspace: Marked): string;
  /** What each workspace was told without asking: what its webhooks got, headers and all, and the live events of its viewer. */
  pushed(): Made[];
  /** Resolves when nothing is under way: no task, no post, no tally. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export async function openLab(backend: Database["backend"]): Promise<Lab> {
  const made = backend === "postgres" ? await createDatabase() : undefined;
  const flags = {
    "auth.anonymous-role": "none",
    "auth.admin-key": ROOT,
    "secrets.key": randomBytes(32).toString("base64"),
    "allow-private-urls": "true",
    ...(made && { "database.url": made.url }),
  };
  // The server has a PGlite to itself: it is looked into through the server's own.
  let embedded: Database | undefined;
  const open: typeof openDatabase = async (options) => {
    embedded = await openDatabase(options);
    return embedded;
  };
  const places = Object.fromEntries(WORKSPACES.map((workspace) => [placeOf(workspace), agentOf(workspace)]));
  const hooks = await openHooks();
  const servers: Server[] = [];
  for (let i = 0; i < (made ? 2 : 1); i++) {
    const app = await startTestApp({ backend, flags, places, openDatabase: open });
    servers.push({ app, ways: WAYS.map((way) => ({ way, client: way.connect(app) })) });
  }
  const db = made ? openPostgres({ url: made.url, poolSize: 1, log: silent }) : embedded!;

  const baseUrl = servers[0]!.app.httpUrl;
  const clientOf = (apiKey: string) => createSignalboxClient({ baseUrl, apiKey, reconnects: 0 });
  const seen = new Seen();
  const tokens = new Map<string, string>();
  const needed = new Set<string>();
  for (const workspace of WORKSPACES) {
    for (const { keyId, token, principalId } of await found(clientOf(ROOT), workspace)) {
      tokens.set(`${workspace.workspaceId} ${principalId}`, token);
      needed.add(keyId);
      seen.add("key", keyId, workspace.workspaceId);
    }
    await furnish(clientOf(tokens.get(`${workspace.workspaceId} admin`)!), workspace);
    const { workspaceId } = workspace;
    seen.add("workspace", workspaceId, workspaceId);
    seen.add("agent", ownOf(workspace), workspaceId);
    seen.add("spare", spareOf(workspace), workspaceId);
    seen.add("member", memberOf(workspace), workspaceId);
  }
  // Agents that are lent have the same ids at all who borrow.
  for (const alias of ["lent-1", "lent-2"])
    seen.add("agent", alias, ...WORKSPACES.map(({ workspaceId }) => workspaceId));

  const events = new Map<string, JsonValue[]>();
  const stop = new AbortController();
  const watches = WORKSPACES.map(async ({ workspaceId }, i) => {
    const { client } = servers[i % servers.length]!.ways[0]!;
    const headers = { authorization: `Bearer ${tokens.get(`${workspaceId} viewer`)}` };
    const told: JsonValue[] = [];
    events.set(workspaceId, told);
    for await (const event of client.call({ method: WATCH, request: {}, headers, signal: stop.signal }))
      told.push(event);
  });
  const watched = Promise.allSettled(watches);

  return {
    servers,
    db,
    token: (workspaceId, principalId) => tokens.get(`${workspaceId} ${principalId}`)!,
    needed,
    seen,
    hookUrl: ({ workspaceId }) => `${hooks.url}/${workspaceId}`,
    pushed: () =>
      WORKSPACES.flatMap((workspace) => [
        ...(hooks.posted.get(workspace.workspaceId) ?? []).map((text) => toldOf(workspace, "a webhook", text)),
        ...(events.get(workspace.workspaceId) ?? []).map((event) => toldOf(workspace, "live events", event)),
      ]),
    settle: () => settle(db),
    async close() {
      stop.abort();
      await watched;
      for (const { app, ways } of servers) {
        for (const { client } of ways) client.close();
        await app.stop();
      }
      hooks.close();
      if (made) {
        await db.close();
        await made.drop();
      }
    },
  };
}

const WATCH = TaskService.method.watchTasks;

const toldOf = (workspace: Marked, what: string, told: JsonValue): Made => ({
  workspace,
  what,
  method: WATCH,
  request: "",
  outcome: { ok: [told] },
});

/** The agent that no other workspace has, by its id. */
const ownOf = ({ workspaceId }: Marked): string => `own-${workspaceId.at(-1)}`;

/** Makes a workspace with quotas, and a key for everybody in it. */
async function found({ workspaces }: SignalboxClient, { workspaceId, mark }: Marked) {
  await workspaces.createWorkspace({ workspace: { workspaceId, displayName: `The ${mark}` } });
  // Quotas that count everything and refuse nothing.
  const quotas = { tasksPerSecond: 100_000, tasksInFlight: 10_000, storedBytes: 10n ** 12n, streams: 1000 };
  await workspaces.setQuotas({ workspaceId, quotas });
  return Promise.all(
    Object.entries(PEOPLE).map(async ([principalId, { roles, ...more }]) => {
      const asked = { principalId, roles: [...roles], ...more, workspaceId, description: `Of ${mark}` };
      const { key, token } = await workspaces.createKey({ key: asked });
      return { keyId: key!.keyId, token, principalId };
    }),
  );
}

/** What every workspace has from the beginning. */
async function furnish({ registry, policies, workspaces }: SignalboxClient, workspace: Marked): Promise<void> {
  for (const agentId of ["echo", "ask", ownOf(workspace)]) {
    await registry.registerAgent({ agentId, source: { case: "card", value: cardOf(workspace, agentId) as never } });
  }
  const capability = { description: `${workspace.agentMark} says it`, tags: ["test"] };
  await registry.addCapability({
    agentId: "echo",
    // Equal requests are answered out of the cache, whoever of the workspace sends them.
    capability: { ...capability, capabilityId: "say", cacheTtlMs: 86_400_000n, cacheShared: true },
  });
  await registry.addCapability({ agentId: "echo", capability: { ...capability, capabilityId: "pay" } });
  await registry.setDefaultAgent({ agentId: "echo" });
  await policies.putPolicy({ policy: { document: policyOf(workspace), comment: workspace.mark } });
  await workspaces.putMember({ member: { principalId: memberOf(workspace), roles: ["viewer"] } });
}

async function openHooks() {
  const posted = new Map<string, string[]>();
  const server = createServer(async (request, response) => {
    const bytes: Buffer[] = [];
    for await (const chunk of request) bytes.push(chunk as Buffer);
    const workspaceId = request.url!.slice(1);
    const texts = posted.get(workspaceId) ?? [];
    posted.set(workspaceId, texts);
    texts.push(`${JSON.stringify(request.headers)} ${Buffer.concat(bytes).toString()}`);
    response.end();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    posted,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** What is under way: tasks that somebody works on, rows of logs that a duty has not read, posts. */
const UNDER_WAY = `
  select (select count(*) from tasks where state in (1, 2, 9, 10) or (lease_owner is not null and state not in (8)))
       + (select count(*) from outbox_cursors c where exists (
            select from task_updates u
            where (u.xid, u.workspace_id, u.task_id, u.seq) > (c.xid, c.workspace_id, c.task_id, c.seq)))
       + (select count(*) from push_configs where next_try_at is not null and given_up_at is null) as count`;

const SETTLES_MS = 20_000;

async function settle(db: Database): Promise<void> {
  const end = Date.now() + SETTLES_MS;
  for (;;) {
    const [row] = await raw(db, UNDER_WAY);
    if (Number(row!.count) === 0) return;
    if (Date.now() > end) throw new Error(`${row!.count} things are under way still`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
