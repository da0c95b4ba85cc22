/** What judges the rows of workspaces sees what is planted, wherever it is, and lets through what an agent that was lent writes. */
import { beforeEach, expect, test } from "vitest";
import { describeEachBackend } from "../../store/backends.ts";
import { raw } from "../../store/tables.ts";
import { changes, leaksIn, type Marked, readRows, restingRows, type StoredRow } from "./workspace-rows.ts";

const [A, B]: [Marked, Marked] = [
  { workspaceId: "space-a", mark: "ws-a-7f3", agentMark: "agent-a-7f3" },
  { workspaceId: "space-b", mark: "ws-b-7f3", agentMark: "agent-b-7f3" },
];

describeEachBackend("the judge of rows", (context) => {
  const run = (text: string, values: unknown[] = []) => raw(context.db, text, values);
  const found = async () =>
    leaksIn(await readRows(context.db), [A, B]).map(({ table, column, owner, of }) => [table, column, owner, of]);
  beforeEach(async () => {
    await run("truncate workspaces cascade");
    for (const { workspaceId, mark } of [A, B]) {
      await run("insert into workspaces (workspace_id, display_name) values ($1, $2)", [workspaceId, `The ${mark}`]);
    }
  });

  const settings = (workspaceId: string, body: string) =>
    run("insert into routing_settings (workspace_id, body, revision, updated_at) values ($1, $2, 1, now())", [
      workspaceId,
      Buffer.from(`\u0001\u00ff${body}\u0000`, "latin1"),
    ]);

  test("finds nothing where everybody says what is theirs", async () => {
    await settings(A.workspaceId, A.mark);
    expect(await found()).toEqual([]);
  });

  test("finds the mark of another in texts, in lists and within bytes", async () => {
    await settings(A.workspaceId, B.mark);
    await run(
      `insert into members (workspace_id, principal_id, roles, scopes, implied, created_at, created_by)
       values ($1, 'x', array[$2], '{}', false, now(), 'y')`,
      [B.workspaceId, A.agentMark],
    );
    await run("update workspaces set display_name = $1 where workspace_id = $2", [A.mark, B.workspaceId]);
    expect((await found()).sort()).toEqual([
      ["members", "roles", "space-b", "space-a"],
      ["routing_settings", "body", "space-a", "space-b"],
      ["workspaces", "display_name", "space-b", "space-a"],
    ]);
  });

  test("sees each row that comes, goes or changes, of the workspaces that it is asked about", async () => {
    await settings(A.workspaceId, "one");
    await settings(B.workspaceId, "one");
    const before = restingRows(await readRows(context.db), [B.workspaceId]);
    await run("update routing_settings set revision = 2 where workspace_id = $1", [A.workspaceId]);
    expect(changes(before, restingRows(await readRows(context.db), [B.workspaceId]))).toEqual({ gone: [], come: [] });
    await run("update routing_settings set revision = 2 where workspace_id = $1", [B.workspaceId]);
    const after = changes(before, restingRows(await readRows(context.db), [B.workspaceId]));
    expect([after.gone, after.come]).toEqual([
      [expect.stringContaining('["revision","1"]')],
      [expect.stringContaining('["revision","2"]')],
    ]);
  });

  test("a grant is both sides', and changes for whoever is neither", async () => {
    await run(
      `insert into grants (provider_workspace_id, grant_id, consumer_workspace_id, agent_id, created_at, offered_by)
       values ($1, 'g', $2, 'echo', now(), $3)`,
      [B.workspaceId, A.workspaceId, A.mark],
    );
    expect(await found()).toEqual([]);
    const rows = await readRows(context.db);
    const grants = (...ids: string[]) => [...restingRows(rows, ids)].filter((row) => row.startsWith("grants "));
    expect([grants(A.workspaceId), grants(B.workspaceId)]).toEqual([[], []]);
    expect(grants(A.workspaceId, B.workspaceId)).toHaveLength(1);
  });
});

test("what an agent that is lent writes is where it belongs, and nowhere else", () => {
  const row = (table: string, columns: Record<string, string>): StoredRow => ({
    table,
    owners: table === "grants" ? [B.workspaceId, A.workspaceId] : [A.workspaceId],
    columns: { workspace_id: A.workspaceId, ...columns },
  });
  const grant = (accepted_at: string) =>
    row("grants", {
      provider_workspace_id: B.workspaceId,
      consumer_workspace_id: A.workspaceId,
      alias_agent_id: "lent",
      accepted_at,
    });
  const task = (task_id: string, agent_id: string, earlier_agent_ids = "null") =>
    row("tasks", { task_id, agent_id, earlier_agent_ids, status: B.agentMark });
  const rows = [
    task("1", "lent"),
    task("2", "own"),
    task("3", "own", '["lent"]'),
    row("task_updates", { task_id: "1", body: B.agentMark, cause: "" }),
    row("task_updates", { task_id: "2", body: B.agentMark, cause: "" }),
    // What is nobody's business but the lender's.
    row("task_updates", { task_id: "1", body: B.mark, cause: "" }),
    // Not where agents write.
    row("task_updates", { task_id: "1", body: "", cause: B.agentMark }),
    row("agents", { card: B.agentMark }),
  ];
  const found = (more: StoredRow) =>
    leaksIn([...rows, more], [A, B]).map(({ table, column, text }) => [table, column, text]);
  expect(found(grant("2026-01-01"))).toEqual([
    ["tasks", "status", B.agentMark],
    ["task_updates", "body", B.agentMark],
    ["task_updates", "body", B.mark],
    ["task_updates", "cause", B.agentMark],
    ["agents", "card", B.agentMark],
  ]);
  // Offered is not agreed.
  expect(found(grant("null"))).toHaveLength(rows.length);
});
