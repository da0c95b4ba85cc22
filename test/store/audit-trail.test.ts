import fc from "fast-check";
import { expect, test } from "vitest";
import type { AuditEvent } from "../../src/domain/audit/entry.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import { auditEntries, expectWholeChains } from "./audit-lines.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const event = (more: Partial<AuditEvent> = {}): AuditEvent => ({
  workspaceId: "default",
  at: new Date("2026-01-02T03:04:05.678Z"),
  actor: "anonymous",
  action: "rollout.put",
  targetType: "rollout",
  targetId: "translate",
  result: "OK",
  ...more,
});

describeEachBackend("audit trail", (ctx) => {
  const trailOf = (replicaId: string, enabled = true) =>
    createAuditTrail({ db: ctx.db, enabled, replicaId: () => replicaId });
  const empty = async () => {
    await raw(ctx.db, "truncate audit_entries, audit_chains");
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
  };

  test("the database writes the lines and hashes that the domain says, whatever they hold", async () => {
    await empty();
    const text = fc.string({ unit: "binary", maxLength: 40 });
    const events = fc.array(
      fc.record({ actor: text, targetId: text, reason: text, workspaceId: fc.constantFrom("default", "other") }),
      { minLength: 1, maxLength: 20 },
    );
    await fc.assert(
      fc.asyncProperty(events, async (given) => {
        const detail = (reason: string) => ({
          reason: reason.toWellFormed(),
          nested: { n: 1.5e300, list: [null, true] },
        });
        await trailOf("replica").write(given.map(({ reason, ...rest }) => event({ ...rest, detail: detail(reason) })));
        await expectWholeChains(ctx.db);
      }),
      { numRuns: 15 },
    );
  });

  test("an entry comes and goes with its transaction", async () => {
    await empty();
    const trail = trailOf("replica");
    const record = trail.recording(event({ detail: { given: 1 } }));
    await ctx.db.kysely.transaction().execute((tx) => record(tx, { revision: 7 }));
    const failed = ctx.db.kysely.transaction().execute(async (tx) => {
      await record(tx);
      throw new Error("thought better of it");
    });
    await expect(failed).rejects.toThrow("thought better");
    await ctx.db.kysely.transaction().execute((tx) => record(tx));
    await expectWholeChains(ctx.db);
    expect(await auditEntries(ctx.db)).toMatchObject([
      { chain: "replica/x", n: 1, detail: { given: 1, revision: 7 } },
      { chain: "replica/x", n: 2, detail: { given: 1 } },
    ]);
  });

  test("where nothing is to be recorded, nothing is", async () => {
    await empty();
    const trail = trailOf("replica", false);
    await trail.write([event()]);
    await ctx.db.kysely.transaction().execute(trail.recording(event()));
    expect(await auditEntries(ctx.db)).toEqual([]);
  });

  test("writers of one chain go one after another, and of others beside", async () => {
    await empty();
    const trails = ["one", "two"].map((id) => trailOf(id));
    const writes = Array.from({ length: 40 }, (_, i) =>
      trails[i % 2]!.write(
        ["default", "other", "default"].map((workspaceId) => event({ workspaceId, targetId: `${i}` })),
        i % 3 === 0 ? "r" : "x",
      ),
    );
    await Promise.all(writes);
    await expectWholeChains(ctx.db);
    expect(await auditEntries(ctx.db)).toHaveLength(120);
    expect(await raw(ctx.db, "select 1 from audit_chains")).toHaveLength(8);
  });
});
