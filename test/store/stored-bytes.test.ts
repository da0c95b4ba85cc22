/** What workspaces have stored: counted page by page, by one replica at a time, and only where a quota asks for it. */
import { beforeEach, expect, it } from "vitest";
import { createQuotaUses } from "../../src/services/identity/quota-use.ts";
import { createQuotaRepository } from "../../src/store/quota-repository.ts";
import { createStoredBytes } from "../../src/store/stored-bytes.ts";
import { registerReplica } from "../fixtures/replica.ts";
import { describeEachBackend } from "./backends.ts";
import { emptyTables, raw } from "./tables.ts";

describeEachBackend("stored bytes", (context) => {
  const usage = async (workspaceId: string) => {
    const [record] = await createQuotaRepository(context.db).read([workspaceId]);
    return record!.storedBytes;
  };
  /** Counts until nothing is due, by so many at once. Returns the pages that were counted. */
  async function countAll(replicas = 1): Promise<number> {
    const stored = Array.from({ length: replicas }, () => createStoredBytes(context.db));
    await Promise.all(stored.map((one) => one.enlist()));
    let pages = 0;
    await Promise.all(
      stored.map(async (one) => {
        while (await one.countPage(3_600_000)) pages += 1;
      }),
    );
    // One that gave way to another may have left what that one has just let go.
    while (await stored[0]!.countPage(3_600_000)) pages += 1;
    return pages;
  }
  /** Rows of a log, each of so many bytes, with a cause of ten. */
  const log = (workspaceId: string, taskId: string, rows: number, bytes: number) =>
    raw(
      context.db,
      `insert into task_updates (workspace_id, task_id, seq, kind, body, cause, created_at)
       select $1, $2, n, 1, convert_to(repeat('x', $4), 'UTF8'), '0123456789', now() from generate_series(1, $3::int) n`,
      [workspaceId, taskId, rows, bytes],
    );
  const again = () =>
    raw(context.db, "update workspace_usage set due_at = clock_timestamp() where due_at > '-infinity'");
  const quota = (workspaceId: string, quotas: object | null) =>
    raw(
      context.db,
      "update workspaces set quotas = $2, quotas_revision = quotas_revision + 1 where workspace_id = $1",
      [workspaceId, quotas && JSON.stringify(quotas)],
    );

  beforeEach(async () => {
    await emptyTables(context.db);
    await raw(context.db, "truncate workspace_usage, open_streams, exchange_messages, held_updates cascade");
    await raw(context.db, "insert into workspaces (workspace_id) values ('other'), ('third') on conflict do nothing");
    for (const id of ["default", "other", "third"]) await quota(id, null);
  });

  it("are counted over many pages, whoever counts, each row once", async () => {
    await quota("default", { storedBytes: "1048576" });
    await log("default", "task-1", 4_500, 20);
    await log("default", "task-2", 10, 1_000_000);
    await log("other", "task-1", 100, 1_000);
    const pages = await countAll(3);
    expect(pages).toBeGreaterThanOrEqual(6);
    expect(await usage("default")).toBe(4_500 * 30 + 10 * 1_000_010);
    // Nobody asks for these.
    expect(await usage("other")).toBeUndefined();
  });

  it("are those of held updates and exchanges too", async () => {
    await quota("default", { storedBytes: "1048576" });
    await raw(
      context.db,
      `insert into held_updates (workspace_id, task_id, n, kind, body) values ('default', 'task', 1, 2, '12345')`,
    );
    await raw(
      context.db,
      `insert into exchanges (workspace_id, correlation_id, owner_id, last_seq, created_at, last_at) values ('default', 'a b', 'me', 2, now(), now())`,
    );
    await raw(
      context.db,
      `insert into exchange_messages (workspace_id, correlation_id, owner_id, seq, kind, principal, body, created_at)
       values ('default', 'a b', 'me', 1, 1, 'me', '123', now()), ('default', 'a b', 'me', 2, 1, 'me', '1234', now())`,
    );
    await countAll();
    expect(await usage("default")).toBe(12);
  });

  it("are counted page by page where a key has three parts, too", async () => {
    await quota("default", { storedBytes: "1048576" });
    const many = "generate_series(1, 4500) n";
    await raw(
      context.db,
      `insert into exchanges (workspace_id, correlation_id, owner_id, last_seq, created_at, last_at) values ('default', 'c', 'me', 4500, now(), now())`,
    );
    await raw(
      context.db,
      `insert into exchange_messages (workspace_id, correlation_id, owner_id, seq, kind, principal, body, created_at)
       select 'default', 'c', 'me', n, 1, 'me', 'ab', now() from ${many}`,
    );
    await countAll();
    expect(await usage("default")).toBe(9_000);
  });

  it("are fewer when rows are gone, and are not counted before they are due", async () => {
    await quota("default", { storedBytes: "1048576" });
    await log("default", "task", 10, 90);
    await countAll();
    expect(await usage("default")).toBe(1_000);
    await raw(context.db, "delete from task_updates where seq > 5");
    expect(await countAll()).toBe(0);
    expect(await usage("default")).toBe(1_000);
    await again();
    await countAll();
    expect(await usage("default")).toBe(500);
  });

  it("are forgotten with the quota, and told with the time at which they were counted", async () => {
    const repository = createQuotaRepository(context.db);
    const uses = createQuotaUses(repository);
    await quota("third", { storedBytes: "1048576" });
    await log("third", "task", 1, 90);
    await countAll();
    const a = await registerReplica(context.db);
    const b = await registerReplica(context.db);
    await repository.tellStreams(a, new Map([["third", 3]]));
    await repository.tellStreams(
      b,
      new Map([
        ["third", 4],
        ["other", 1],
      ]),
    );
    const use = await uses.of("third");
    expect(use).toMatchObject({ storedBytes: 100n, streams: 7n, tasksInFlight: 0n });
    expect(Number(use.storedBytesTime?.seconds)).toBeGreaterThan(1_700_000_000);
    // Streams of a replica that died are none.
    await raw(context.db, "update replicas set died_at = now() where replica_id = $1", [b]);
    expect((await uses.of("third")).streams).toBe(3n);
    await repository.tellStreams(a, new Map([["third", 0]]));
    expect(await raw(context.db, "select from open_streams")).toHaveLength(0);
    await quota("third", null);
    await countAll();
    expect(await usage("third")).toBeUndefined();
    expect((await uses.of("third")).storedBytesTime).toBeUndefined();
  });

  it("of one workspace that cannot be counted do not keep others from being", async () => {
    await quota("default", { storedBytes: "1048576" });
    await quota("other", { storedBytes: "1048576" });
    await log("default", "task", 1, 10);
    await log("other", "task", 1, 10);
    const stored = createStoredBytes(context.db);
    await stored.enlist();
    // A place in its pass that is none.
    await raw(
      context.db,
      "update workspace_usage set pass_after = array['task', 'x'], due_at = due_at - interval '1 second' where workspace_id = 'default'",
    );
    await expect(stored.countPage(3_600_000)).rejects.toThrow();
    while (await stored.countPage(3_600_000));
    expect([await usage("default"), await usage("other")]).toEqual([undefined, 20]);
  });
});
