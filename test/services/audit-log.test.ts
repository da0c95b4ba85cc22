/** The use cases of the audit log: who sees what, proofs, keys that change, and what is found in a database that somebody tampered with. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import {
  ExportEntriesRequestSchema,
  ListEntriesRequestSchema,
  ProveConsistencyRequestSchema,
  ProveInclusionRequestSchema,
} from "../../gen/signalbox/v1/audit_pb.ts";
import { isSignedBy, publicBytes, readNote, readVerifierKey } from "../../src/domain/audit/checkpoint.ts";
import type { Fault } from "../../src/domain/audit/fault.ts";
import { isConsistent, isIncluded } from "../../src/domain/audit/proofs.ts";
import { createLogVerifier } from "../../src/domain/audit/verify.ts";
import { createAuditLogService } from "../../src/services/audit/audit-log.ts";
import { createAuditCheck } from "../../src/services/audit/checking.ts";
import { createAuditFaults } from "../../src/services/audit/faults.ts";
import { type GivenKeys, openAuditSigner } from "../../src/services/audit/signer.ts";
import { startAuditSequencer } from "../../src/services/background/audit-sequencer.ts";
import { type AuditVerifierDeps, startAuditVerifier } from "../../src/services/background/audit-verifier.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAuditKeyRepository } from "../../src/store/audit-key-repository.ts";
import { createAuditLogReads } from "../../src/store/audit-log-reads.ts";
import { createAuditLogRepository } from "../../src/store/audit-log-repository.ts";
import { keyOf, ORIGIN } from "../fixtures/audit-log.ts";
import { foldAll, resetAudit, signerOf, tamper, write } from "../store/audit-lab.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const runtime = systemRuntime();

const contextOf = (id = "admin", scopes: string[] = ["*"], workspaceId = "default"): RequestContext =>
  ({
    workspaceId,
    principal: { id, workspaceId, scopes: new Set(scopes) },
    signal: new AbortController().signal,
  }) as never;

describeEachBackend("the audit log's use cases", (ctx) => {
  const keys = () => createAuditKeyRepository(ctx.db);
  const reads = () => createAuditLogReads(ctx.db);
  const check = () => createAuditCheck({ reads: reads(), keys: keys(), origin: ORIGIN });
  const service = () => createAuditLogService({ reads: reads(), keys: keys(), check: check(), origin: ORIGIN });

  beforeEach(() => resetAudit(ctx.db));

  async function faults(start = 0): Promise<Fault[]> {
    const found: Fault[] = [];
    for await (const step of check()("default", start)) found.push(...step.faults);
    return found;
  }

  async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
    const found: T[] = [];
    for await (const item of items) found.push(item);
    return found;
  }

  async function exported(start = 0, end = 0): Promise<Buffer> {
    const request = create(ExportEntriesRequestSchema, { startIndex: BigInt(start), endIndex: BigInt(end) });
    const chunks: Uint8Array[] = [];
    for await (const { lines } of service().export(contextOf(), request)) chunks.push(lines);
    return Buffer.concat(chunks);
  }

  function verdictOn(file: Buffer, name = "first") {
    const verifier = createLogVerifier({ trusted: { publicKey: publicBytes(keyOf(name)) } });
    verifier.feed(file);
    return verifier.end();
  }

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

  describe("reading it again", () => {
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

  describe("keys", () => {
    const open = (given: Partial<GivenKeys>, origin?: string) =>
      openAuditSigner({
        keys: keys(),
        given: { key: undefined, previous: undefined, isNamed: true, ...given },
        origin,
        runtime,
        log: silent,
      });

    beforeEach(() => raw(ctx.db, "truncate audit_keys"));

    test("follow one another, each signed by the one before it; both sign while they change", async () => {
      const first = await open({ key: keyOf("first") }, ORIGIN);
      expect(first.origin).toBe(ORIGIN);
      await write(ctx.db, "r1", 2);
      expect(await createAuditLogRepository(ctx.db).fold("default", first.signer!, 10)).toMatchObject({ size: 2 });
      const second = await open({ key: keyOf("second"), previous: keyOf("first") });
      await write(ctx.db, "r1", 2);
      const fold = (signer = first.signer!) => createAuditLogRepository(ctx.db).fold("default", signer, 10);
      expect(await fold()).toMatchObject({ status: "OTHER_KEY" });
      expect(await fold(second.signer!)).toMatchObject({ status: "FOLDED", size: 4 });
      const all = await service().keys(contextOf());
      expect(all.map(({ active, signedByPrevious }) => [active, signedByPrevious.length])).toEqual([
        [false, 0],
        [true, 64],
      ]);
      const note = readNote((await service().checkpoint(contextOf(), BigInt(0))).note)!;
      for (const { verifierKey } of all) expect(isSignedBy(note, readVerifierKey(verifierKey)!)).toBe(true);
      expect(verdictOn(await exported())).toMatchObject({ intact: true });
      // Later, with the new key alone.
      const third = await open({ key: keyOf("second") });
      await write(ctx.db, "r1", 2);
      expect(await fold(third.signer!)).toMatchObject({ size: 6 });
      expect(verdictOn(await exported(), "first")).toMatchObject({ intact: true });
      expect(verdictOn(await exported(), "second")).toMatchObject({ intact: true });
      expect(await faults()).toEqual([]);
      await open({ key: keyOf("first") });
      expect(await service().keys(contextOf())).toHaveLength(2);
    });

    test("do not take the place of another unless they were named, and are then not believed", async () => {
      await open({ key: keyOf("first") }, ORIGIN);
      const made = await open({ key: keyOf("second"), isNamed: false });
      await write(ctx.db, "r1", 2);
      const fold = (signer: NonNullable<typeof made.signer>) =>
        createAuditLogRepository(ctx.db).fold("default", signer, 10);
      expect(await fold(made.signer!)).toMatchObject({ status: "OTHER_KEY" });
      const named = await open({ key: keyOf("second") });
      expect(await fold(named.signer!)).toMatchObject({ status: "FOLDED" });
      expect(verdictOn(await exported(), "first").fault?.kind).toBe("SIGNATURE");
      expect(verdictOn(await exported(), "second").intact).toBe(true);
    });

    test("are under one name for ever", async () => {
      const { origin, signer } = await open({});
      expect(origin).toMatch(/^signalbox-[0-9a-f]{12}$/);
      expect(signer).toBeUndefined();
      await expect(open({}, "example.com/other")).rejects.toMatchObject({ reason: "AUDIT_ORIGIN_CHANGED" });
    });
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
