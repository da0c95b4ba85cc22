/** That changes of the policy files are recorded, also those of while the database was away. */
import { expect, test } from "vitest";
import { startPolicyFilesRecord } from "../../src/services/audit-policy-files.ts";
import type { PolicyFiles } from "../../src/services/background/policy-files.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import { auditEntries } from "../store/audit-lines.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

describeEachBackend("changes of the policy files", (ctx) => {
  async function open() {
    await raw(ctx.db, "truncate audit_entries, audit_chains");
    const files = { held: [] as { name: string; digest: string }[], problems: [] };
    const database = { isAway: true };
    const waits: PromiseWithResolvers<void>[] = [];
    const trail = createAuditTrail({ db: ctx.db, enabled: true, replicaId: () => "replica" });
    const record = startPolicyFilesRecord({
      files: files as unknown as Pick<PolicyFiles, "held" | "problems">,
      trail: {
        async write(...given) {
          if (database.isAway) throw new Error("the database is away");
          await trail.write(...given);
        },
      },
      runtime: {
        ...systemRuntime(),
        wait(_, signal) {
          const wait = Promise.withResolvers<void>();
          waits.push(wait);
          signal.addEventListener("abort", () => wait.reject(signal.reason));
          return wait.promise;
        },
      },
      log: silent,
      replicaId: () => "replica",
      workspaceId: "default",
    });
    const change = (digest: string) => {
      files.held = [{ name: "policy.yaml", digest }];
      record.look();
    };
    const recorded = async () =>
      (await auditEntries(ctx.db)).map(({ detail }) => (detail as { files: { digest: string }[] }).files[0]?.digest);
    return { database, waits, record, change, recorded };
  }

  test("are recorded when the database is back, each, and in their order", async () => {
    const { database, waits, record, change, recorded } = await open();
    change("one");
    await expect.poll(() => waits.length).toBe(1);
    change("two");
    database.isAway = false;
    waits[0]!.resolve();
    await expect.poll(recorded).toEqual(["one", "two"]);
    await record.stop();
  });

  test("are recorded before a server stops, if the database is back", async () => {
    const { database, waits, record, change, recorded } = await open();
    change("one");
    await expect.poll(() => waits.length).toBe(1);
    database.isAway = false;
    await record.stop();
    expect(await recorded()).toEqual(["one"]);
  });

  test("keep no server from stopping", async () => {
    const { waits, record, change, recorded } = await open();
    change("one");
    await expect.poll(() => waits.length).toBe(1);
    await record.stop();
    expect(await recorded()).toEqual([]);
  });
});
