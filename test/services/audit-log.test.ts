/** The use cases of the audit log: who sees what, in which pages, proofs, exports, and how soon what is written is there. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  ListEntriesRequestSchema,
  ProveConsistencyRequestSchema,
  ProveInclusionRequestSchema,
} from "../../gen/signalbox/v1/audit_pb.ts";
import { readNote } from "../../src/domain/audit/checkpoint.ts";
import { isConsistent, isIncluded } from "../../src/domain/audit/proofs.ts";
import { createAuditFaults } from "../../src/services/audit/faults.ts";
import { startAuditSequencer } from "../../src/services/background/audit-sequencer.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAuditLogRepository } from "../../src/store/audit-log-repository.ts";
import { foldAll, signerOf, tamper, write } from "../store/audit-lab.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { contextOf, openAuditService } from "./audit-service-lab.ts";

const runtime = systemRuntime();

describeEachBackend("the audit log's use cases", (ctx) => {
  const { reads, service, faults, all, exported, verdictOn } = openAuditService(ctx);

  test("a caller sees what it did itself, an auditor all, and nobody what is another workspace's", async () => {
    await write(ctx.db, "r1", 6);
    await write(ctx.db, "r1", 1, { workspaceId: "other" });
    await foldAll(ctx.db);
    await write(ctx.db, "r2", 2);
    const list = async (context: RequestContext, filter = {}) =>
      (await service().list(context, create(ListEntriesRequestSchema, filter))).entries;
    expect(await list(contextOf())).toHaveLength(8);
    const own = await list(contextOf("even", ["audit.read"]));
    expect(own.map(({ actor }) => actor)).toEqual(["even", "even", "even", "even"]);
    expect(await list(contextOf("even", ["audit.read"]), { actor: "odd" })).toEqual([]);
    expect(await list(contextOf("even", ["audit.admin"]), { actor: "odd" })).toHaveLength(4);
    const [entry] = await list(contextOf());
    expect(entry).toMatchObject({
      chainId: "r2/x",
      number: 2n,
      action: "test.write",
      targetType: "thing",
      result: "OK",
    });
    expect(entry).not.toHaveProperty("index", expect.anything());
    expect(JSON.parse(entry!.detail)).toMatchObject({ text: 'a "quoted" ä' });
    expect(JSON.parse(entry!.line)).toMatchObject({ chain: "r2/x", n: 2, workspace: "default" });
  });

  test("what was never written to a chain is not listed, of a task neither", async () => {
    await write(ctx.db, "r1", 2, { taskId: "t" });
    await foldAll(ctx.db);
    for (const place of ["chain_id, 3", "'r9/x', 1"]) {
      await raw(
        ctx.db,
        `insert into audit_entries select workspace_id, ${place}, body, hash, at, task_id from audit_entries
         where chain_id = 'r1/x' and n = 1`,
      );
    }
    for (const filter of [{}, { taskId: "t" }]) {
      const { entries } = await service().list(contextOf(), create(ListEntriesRequestSchema, filter));
      expect(entries.map(({ index }) => index)).toEqual([1n, 0n]);
    }
  });

  test("pages go through all entries once", async () => {
    await write(ctx.db, "r1", 25);
    await write(ctx.db, "r2", 20, { taskId: "t" });
    await foldAll(ctx.db);
    await write(ctx.db, "r1", 3, { taskId: "t" });
    for (const [filter, total] of [
      [{}, 48],
      [{ taskId: "t" }, 23],
      [{ actor: "odd" }, 24],
    ] as const) {
      const seen: string[] = [];
      let pageToken = "";
      do {
        const request = create(ListEntriesRequestSchema, { ...filter, pageSize: 7, pageToken });
        const page = await service().list(contextOf(), request);
        seen.push(...page.entries.map(({ chainId, number }) => `${chainId} ${number}`));
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen).toHaveLength(total);
    }
    const wrong = service().list(contextOf(), create(ListEntriesRequestSchema, { pageToken: "x" }));
    await expect(wrong).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  test("proofs come to the roots of the checkpoints", async () => {
    await write(ctx.db, "r1", 300);
    await foldAll(ctx.db);
    await write(ctx.db, "r2", 400);
    await foldAll(ctx.db);
    const prove = (fields: object) =>
      service().proveInclusion(contextOf(), create(ProveInclusionRequestSchema, fields));
    const latest = readNote((await service().checkpoint(contextOf(), BigInt(0))).note)!;
    const proven = await prove({ index: 299n });
    const place = { index: 299, size: 700, proof: proven.hashes, root: latest.root };
    expect(isIncluded(proven.leafHash, place)).toBe(true);
    expect(await prove({ hash: Buffer.from(proven.leafHash).toString("hex") })).toEqual(proven);
    expect(await prove({ chainId: "r1/x", number: 300n })).toEqual(proven);
    await expect(prove({ index: 300n, size: 300n })).rejects.toMatchObject({ reason: "NOT_IN_LOG_YET" });
    await expect(prove({ index: 0n, size: 301n })).rejects.toMatchObject({ reason: "CHECKPOINT_NOT_FOUND" });
    await expect(prove({ hash: "00".repeat(32) })).rejects.toMatchObject({ reason: "ENTRY_NOT_FOUND" });
    await expect(prove({ hash: "x" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const request = create(ProveConsistencyRequestSchema, { firstSize: 300n });
    const { hashes, firstRoot, secondRoot } = await service().proveConsistency(contextOf(), request);
    expect(isConsistent({ firstSize: 300, firstRoot, secondSize: 700, secondRoot }, hashes)).toBe(true);
    expect(Buffer.from(secondRoot).equals(latest.root)).toBe(true);
    const backwards = create(ProveConsistencyRequestSchema, { firstSize: 701n });
    await expect(service().proveConsistency(contextOf(), backwards)).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  });

  test("an export, whole or in part, is intact, and shows what was done in the database", async () => {
    await write(ctx.db, "r1", 300);
    await write(ctx.db, "r2", 300);
    await foldAll(ctx.db);
    expect(verdictOn(await exported())).toMatchObject({ intact: true, entries: 600 });
    expect(verdictOn(await exported(7, 400))).toMatchObject({ intact: true, entries: 393 });
    expect(verdictOn(await exported(0, 256))).toMatchObject({ intact: true, entries: 256 });
    expect(verdictOn(await exported(), "other").fault?.kind).toBe("SIGNATURE");
    await tamper(
      ctx.db,
      "audit_entries",
      "update audit_entries set body = replace(body, '\"OK\"', '\"NO\"') where n = 270 and chain_id = 'r1/x'",
    );
    expect(verdictOn(await exported()).fault).toMatchObject({ kind: "EDITED", index: 269 });
    expect(verdictOn(await exported(100, 280)).fault).toMatchObject({ kind: "EDITED", index: 269 });
    await tamper(ctx.db, "audit_entries", "delete from audit_entries where n = 12 and chain_id = 'r1/x'");
    expect(verdictOn(await exported()).fault).toMatchObject({ kind: "REMOVED", index: 11 });
  });

  test("an export that is long tells its order as it goes on", async () => {
    for (const replica of ["r1", "r2", "r3"]) await write(ctx.db, replica, 3_000);
    await foldAll(ctx.db);
    const file = await exported();
    const lines = file.toString().split("\n");
    expect(lines.flatMap((line, i) => (line.startsWith('{"order":') ? [i] : []))).toEqual([8_192, 9_001]);
    expect(verdictOn(file)).toMatchObject({ intact: true, entries: 9_000 });
    const changed = (to: string[]) => verdictOn(Buffer.from(to.join("\n"))).fault;
    const edited = lines[100]!.replace('"OK"', '"NO"');
    expect(changed(lines.with(100, edited))).toMatchObject({ kind: "EDITED", index: 100 });
    expect(changed(lines.with(8_500, lines[8_500]!.replace("OK", "NO")))).toMatchObject({
      kind: "EDITED",
      index: 8_499,
    });
    expect(changed(lines.toSpliced(8_999, 1))).toMatchObject({ kind: "REMOVED", index: 8_998 });
    expect(changed(lines.toSpliced(20, 0, lines[8_500]!))).toMatchObject({ kind: "INSERTED", index: 20 });
    const swapped = lines.with(3_500, lines[8_600]!).with(8_600, lines[3_500]!);
    expect(changed(swapped)).toMatchObject({ kind: "REORDERED", index: 3_500 });
    const last = lines.with(8_191, lines[8_191]!.replace('"OK"', '"NO"'));
    expect(changed(last)).toMatchObject({ kind: "EDITED", index: 8_191 });
  });

  test("what is written is in the log soon, whichever replica folds", async () => {
    const deps = { signer: signerOf(), faults: createAuditFaults(silent), runtime, log: silent };
    const done = Promise.withResolvers<void>();
    const repository = createAuditLogRepository(ctx.db);
    const watching = {
      ...repository,
      fold: async (...given: Parameters<typeof repository.fold>) => {
        const outcome = await repository.fold(...given);
        if (outcome.status === "FOLDED" && outcome.size === 9_000) done.resolve();
        return outcome;
      },
    };
    const two = [1, 2].map(() => startAuditSequencer({ ...deps, repository: watching }));
    for (const replica of ["r1", "r2", "r3"]) await write(ctx.db, replica, 3_000);
    await done.promise;
    for (const one of two) await one.stop();
    expect(await faults()).toEqual([]);
    expect((await repository.lag()).entries).toBe(0);
  });

  test("a log that is damaged keeps no other from being folded", async () => {
    await write(ctx.db, "r1", 3);
    await foldAll(ctx.db);
    await tamper(ctx.db, "audit_tiles", "delete from audit_tiles");
    await write(ctx.db, "r1", 3);
    await write(ctx.db, "r1", 3, { workspaceId: "other" });
    const seen = createAuditFaults(silent);
    const repository = createAuditLogRepository(ctx.db);
    const folded = Promise.withResolvers<void>();
    const reported = Promise.withResolvers<void>();
    const sequencer = startAuditSequencer({
      repository: {
        ...repository,
        grown: async () => (await repository.grown()).sort(),
        async fold(workspaceId, ...rest) {
          const outcome = await repository.fold(workspaceId, ...rest);
          if (workspaceId === "other") folded.resolve();
          return outcome;
        },
      },
      signer: signerOf(),
      faults: {
        report(workspaceId, fault) {
          seen.report(workspaceId, fault);
          reported.resolve();
        },
      },
      runtime: { ...runtime, random: () => 0 },
      log: silent,
    });
    await Promise.all([folded.promise, reported.promise]);
    await sequencer.stop();
    expect((await reads().checkpoint("other"))?.size).toBe(3);
    expect(seen.workspaces()).toEqual(["default"]);
  });

  test("what cannot be is refused by name", async () => {
    await write(ctx.db, "r1", 1);
    await foldAll(ctx.db);
    const refused = { code: "INVALID_ARGUMENT" };
    await expect(service().checkpoint(contextOf(), -1n)).rejects.toMatchObject(refused);
    await expect(service().checkpoint(contextOf(), 2n ** 63n - 1n)).rejects.toMatchObject(refused);
    await expect(all(service().verify(contextOf(), -1n))).rejects.toMatchObject(refused);
    const list = (filter: object) => service().list(contextOf(), create(ListEntriesRequestSchema, filter));
    await expect(list({ taskId: "a\0b" })).rejects.toMatchObject(refused);
    await expect(list({ startTime: { seconds: 10n ** 15n } })).rejects.toMatchObject(refused);
    await expect(list({ endTime: { seconds: 1n, nanos: -1 } })).rejects.toMatchObject(refused);
    expect((await list({ actor: "a\0b" })).entries).toEqual([]);
    const prove = (proof: object) => service().proveInclusion(contextOf(), create(ProveInclusionRequestSchema, proof));
    await expect(prove({ chainId: "a\0b", number: 1n })).rejects.toMatchObject({ reason: "ENTRY_NOT_FOUND" });
  });
});
