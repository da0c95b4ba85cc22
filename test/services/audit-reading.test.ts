/** What reading an audit log again finds in a database that somebody tampered with, and what the server that reads it tells of that. */
import { beforeEach, expect, test } from "vitest";
import type { Fault } from "../../src/domain/audit/fault.ts";
import { createAuditCheck } from "../../src/services/audit/checking.ts";
import { createAuditFaults } from "../../src/services/audit/faults.ts";
import { type AuditVerifierDeps, startAuditVerifier } from "../../src/services/background/audit-verifier.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { ORIGIN } from "../fixtures/audit-log.ts";
import { foldAll, resetAudit, signerOf, tamper, write } from "../store/audit-lab.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { openAuditService } from "./audit-service-lab.ts";

const runtime = systemRuntime();

describeEachBackend("an audit log that is read again", (ctx) => {
  const { keys, reads, check, faults, all, exported, verdictOn } = openAuditService(ctx);

  beforeEach(async () => {
    await write(ctx.db, "r1", 300);
    await foldAll(ctx.db);
    await write(ctx.db, "r2", 300);
    await foldAll(ctx.db);
  });

  test("finds nothing in a log that nobody touched", async () => {
    expect(await faults()).toEqual([]);
    expect(await faults(300)).toEqual([]);
  });

  test.each<[string, string, string, Partial<Fault>]>([
    [
      "an entry that was edited",
      "audit_entries",
      "update audit_entries set body = replace(body, '\"OK\"', '\"NO\"') where n = 300 and chain_id = 'r1/x'",
      { kind: "EDITED", index: 299 },
    ],
    [
      "one that was edited together with its hash",
      "audit_entries",
      "update audit_entries set body = 'x', hash = sha256('x') where n = 17 and chain_id = 'r1/x'",
      { kind: "EDITED", index: 16 },
    ],
    [
      "one whose stored hash was changed",
      "audit_entries",
      "update audit_entries set hash = sha256('x') where n = 17 and chain_id = 'r2/x'",
      { kind: "EDITED", index: 316 },
    ],
    [
      "one that was removed",
      "audit_entries",
      "delete from audit_entries where n = 17 and chain_id = 'r1/x'",
      { kind: "REMOVED", index: 16 },
    ],
    [
      "one behind the end of its chain",
      "audit_entries",
      "insert into audit_entries select workspace_id, chain_id, 301, body, hash, at, task_id from audit_entries where n = 1 and chain_id = 'r1/x'",
      { kind: "INSERTED", index: 600 },
    ],
    [
      "one behind the end of a chain that is sealed",
      "audit_entries",
      `with sealed as (update audit_chains set sealed = true)
       insert into audit_entries select workspace_id, chain_id, 301, body, hash, at, task_id from audit_entries where n = 1 and chain_id = 'r1/x'`,
      { kind: "INSERTED", index: 600, chainId: "r1/x", number: 301 },
    ],
    [
      "one of a chain that nobody began",
      "audit_entries",
      "insert into audit_entries select workspace_id, 'r9/x', n, body, hash, at, task_id from audit_entries where n = 1 and chain_id = 'r1/x'",
      { kind: "INSERTED", index: 600, chainId: "r9/x", number: 1 },
    ],
    [
      "an order that was changed",
      "audit_spans",
      "update audit_spans set first_n = first_n + 1, count = count - 1 where chain_id = 'r1/x'",
      { kind: "REORDERED", index: 0 },
    ],
    [
      "a tile that was changed",
      "audit_tiles",
      "update audit_tiles set hashes = overlay(hashes placing sha256('x') from 33) where level = 0 and index = 0",
      { kind: "TREE", index: 0 },
    ],
    [
      "a checkpoint that was signed by another",
      "audit_checkpoints",
      "update audit_checkpoints set note = replace(note, '— example.com/audit/default ', '— example.com/audit/default AAAA') where size = 300",
      { kind: "SIGNATURE", index: 300 },
    ],
    [
      "a checkpoint with another root",
      "audit_checkpoints",
      "update audit_checkpoints set root = sha256('x') where size = 300",
      { kind: "TREE", index: 300 },
    ],
  ])("finds %s", async (_, table, text, fault) => {
    await tamper(ctx.db, table, text);
    const found = (await faults()).toSorted((a, b) => a.index - b.index);
    expect(found[0]).toMatchObject(fault);
  });

  test("finds entries that were taken out before they were in the log, in the database and in an export", async () => {
    await write(ctx.db, "r1", 5);
    await tamper(ctx.db, "audit_entries", "delete from audit_entries where chain_id = 'r1/x' and n = 302");
    await foldAll(ctx.db);
    expect(await faults()).toMatchObject([{ kind: "REMOVED", index: 601, chainId: "r1/x", number: 302 }]);
    // Whoever has the database can say that it was in the log.
    await raw(ctx.db, "update audit_log_chains set folded_n = 302 where chain_id = 'r1/x'");
    await foldAll(ctx.db);
    const removed = { kind: "REMOVED", index: 601, chainId: "r1/x", number: 302 };
    expect(await faults()).toMatchObject([removed]);
    expect(verdictOn(await exported()).fault).toMatchObject(removed);
  });

  test("finds entries that were put into the log twice", async () => {
    await raw(ctx.db, "update audit_log_chains set folded_n = 290 where chain_id = 'r1/x'");
    await foldAll(ctx.db);
    const twice = { kind: "INSERTED", index: 600, chainId: "r1/x", number: 291 };
    expect(await faults()).toMatchObject([twice]);
    expect(verdictOn(await exported()).fault).toMatchObject(twice);
  });

  test("finds that the end was cut off with all its traces, if it was read before", async () => {
    const again = check();
    const found = async (with_ = again) => (await all(with_("default", 0))).flatMap(({ faults }) => faults);
    await tamper(ctx.db, "audit_checkpoints", "delete from audit_checkpoints where size = 600");
    expect(await found(check())).toMatchObject([{ kind: "TRUNCATED", index: 300 }]);
    await tamper(ctx.db, "audit_checkpoints", "delete from audit_checkpoints");
    expect(await found(check())).toMatchObject([{ kind: "TRUNCATED", index: 0 }]);
    await resetAudit(ctx.db);
    await write(ctx.db, "r1", 300);
    await foldAll(ctx.db);
    expect(await found()).toEqual([]);
    await resetAudit(ctx.db);
    await write(ctx.db, "r1", 100);
    await foldAll(ctx.db);
    expect(await found(check())).toEqual([]);
    expect(await found()).toMatchObject([{ kind: "TRUNCATED", index: 100 }]);
    await write(ctx.db, "r1", 300);
    await foldAll(ctx.db);
    expect(await found()).toMatchObject([{ kind: "TREE", index: 0 }]);
  });

  test("believes no key that somebody has put behind the server's own", async () => {
    const own = createAuditCheck({ reads: reads(), keys: keys(), origin: ORIGIN, own: signerOf().publicKey });
    const found = async () => (await all(own("default", 0))).flatMap((step) => step.faults);
    expect(await found()).toEqual([]);
    const { publicKey, sign } = signerOf("forger");
    await keys().add({ number: 2, publicKey, signedByPrevious: undefined, createdAt: new Date() });
    const { size, root } = (await reads().checkpoint("default"))!;
    const note = sign("default", size, root);
    await tamper(ctx.db, "audit_checkpoints", "update audit_checkpoints set note = $1 where size = 600", [note]);
    expect(await found()).toMatchObject([{ kind: "SIGNATURE", index: 600 }]);
  });

  /** A verifier that does not rest between its rounds. */
  const startVerifier = (given: Partial<AuditVerifierDeps> & Pick<AuditVerifierDeps, "faults">) =>
    startAuditVerifier({
      workspaces: () => reads().workspaces(),
      check: check(),
      runtime: { ...runtime, wait: async (_, signal) => signal.throwIfAborted() },
      log: silent,
      rate: 1,
      replicas: () => 1,
      ...given,
    });

  test("alarms by itself, and stops when the log is as it was again", async () => {
    const seen = createAuditFaults(silent);
    const change = (from: string, to: string) =>
      tamper(
        ctx.db,
        "audit_entries",
        `update audit_entries set body = replace(body, '"${from}"', '"${to}"') where n = 5`,
      );
    await change("OK", "NO");
    const verifier = startVerifier({ faults: seen });
    await expect.poll(() => seen.count).toBe(2);
    expect(seen.workspaces()).toEqual(["default"]);
    await change("NO", "OK");
    await expect.poll(() => seen.count).toBe(0);
    expect(seen.workspaces()).toEqual([]);
    expect(verifier.verified).toBeGreaterThan(0);
    await verifier.stop();
  });

  test("goes on with the other logs where one cannot be read", async () => {
    const seen = createAuditFaults(silent);
    const read = check();
    await tamper(ctx.db, "audit_entries", "update audit_entries set body = 'x' where n = 5");
    const verifier = startVerifier({
      faults: seen,
      workspaces: async () => ["broken", "default"],
      async *check(workspaceId, start) {
        if (workspaceId === "broken") throw Object.assign(new Error("data is corrupted"), { code: "XX001" });
        yield* read(workspaceId, start);
      },
      runtime: { ...runtime, random: () => 0, wait: async (_, signal) => signal.throwIfAborted() },
    });
    await expect.poll(() => seen.workspaces()).toEqual(["default"]);
    await verifier.stop();
  });
});
