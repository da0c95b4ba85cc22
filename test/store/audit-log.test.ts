/** The order of the audit log, its tree and its checkpoints, as they are stored. */
import fc from "fast-check";
import { beforeEach, expect, test } from "vitest";
import { isSignedBy, originOf, readNote, verifierKey } from "../../src/domain/audit/checkpoint.ts";
import { auditLine, lineHash } from "../../src/domain/audit/entry.ts";
import { rootOf } from "../../src/domain/audit/merkle.ts";
import { isConsistent, isIncluded } from "../../src/domain/audit/proofs.ts";
import { hashesOf, planConsistency, planInclusion, tilesOf } from "../../src/domain/audit/tiles.ts";
import { createAuditLogReads } from "../../src/store/audit-log-reads.ts";
import { createAuditLogRepository } from "../../src/store/audit-log-repository.ts";
import { ORIGIN } from "../fixtures/audit-log.ts";
import { foldAll, resetAudit, signerOf, tamper, write } from "./audit-lab.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

describeEachBackend("the audit log", (ctx) => {
  const log = () => createAuditLogRepository(ctx.db);
  const reads = () => createAuditLogReads(ctx.db);
  const fold = (most = 4_096) => log().fold("default", signerOf(), most);

  beforeEach(() => resetAudit(ctx.db));

  test("is all of the chains, each in its order, however it was folded", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            replica: fc.constantFrom("r1", "r2", "r3"),
            count: fc.integer({ min: 1, max: 400 }),
            most: fc.nat(600),
          }),
          { minLength: 1, maxLength: 5 },
        ),
        async (steps) => {
          await resetAudit(ctx.db);
          for (const { replica, count, most } of steps) {
            await write(ctx.db, replica, count);
            if (most > 0) await fold(most);
          }
          await foldAll(ctx.db);
          const { size, root, note } = (await reads().checkpoint("default"))!;
          const total = steps.reduce((sum, { count }) => sum + count, 0);
          expect(size).toBe(total);
          const entries = await reads().entries("default", 0, size);
          expect(entries.map(({ index }) => index)).toEqual(Array.from({ length: size }, (_, i) => i));
          const next = new Map<string, number>();
          for (const { chainId, number, previous, body, hash } of entries) {
            expect(number).toBe((next.get(chainId) ?? 0) + 1);
            next.set(chainId, number);
            expect(lineHash(auditLine(chainId, number, previous!, body)).equals(hash)).toBe(true);
          }
          expect(rootOf(entries.map(({ hash }) => hash)).equals(root)).toBe(true);
          const parsed = readNote(note)!;
          expect(parsed).toMatchObject({ origin: originOf(ORIGIN, "default"), size });
          expect(isSignedBy(parsed, verifierKey(parsed.origin, signerOf().publicKey))).toBe(true);
          const spans = await reads().spans("default", 0, size, 1_000);
          expect(spans.reduce((sum, { count }) => sum + count, 0)).toBe(size);
          expect(await reads().spans("default", 1, 2, 10)).toMatchObject(
            [{ firstIndex: 1, count: 1 }].slice(0, size - 1),
          );
        },
      ),
      { numRuns: 6 },
    );
  });

  test("proves from its tiles what is in it, and that it only grew", async () => {
    const roots: Buffer[] = [];
    for (const count of [3, 250, 70, 600]) {
      await write(ctx.db, "r1", count);
      await fold();
      roots.push(Buffer.from((await reads().checkpoint("default"))!.root));
    }
    const size = 923;
    const prove = async (plan: ReturnType<typeof planInclusion>) =>
      hashesOf(plan, await reads().tiles("default", tilesOf(plan)));
    const entries = await reads().entries("default", 0, size);
    for (const index of [0, 1, 255, 256, 700, 922]) {
      const proof = await prove(planInclusion(index, size));
      expect(isIncluded(entries[index]!.hash, { index, size, proof, root: roots[3]! })).toBe(true);
    }
    for (const [i, firstSize] of [3, 253, 323].entries()) {
      const proof = await prove(planConsistency(firstSize, size));
      const growth = { firstSize, firstRoot: roots[i]!, secondSize: size, secondRoot: roots[3]! };
      expect(isConsistent(growth, proof)).toBe(true);
    }
    expect(await reads().placeOf("default", "r1/x", 701)).toBe(700);
    expect(await reads().placeOf("default", "r1/x", 924)).toBeUndefined();
    expect(await reads().placeOfHash("default", entries[700]!.hash, size, 4)).toBe(700);
    expect(await reads().placeOfHash("default", entries[0]!.hash, size, 1)).toBeUndefined();
  });

  test("has one order, however many fold at once", async () => {
    await Promise.all(["r1", "r2", "r3"].map((replica) => write(ctx.db, replica, 300)));
    const outcomes = await Promise.all(Array.from({ length: 12 }, () => fold(100)));
    expect(outcomes.filter(({ status }) => status === "FOLDED").length).toBeGreaterThan(0);
    await foldAll(ctx.db);
    const entries = await reads().entries("default", 0, 900);
    expect(new Set(entries.map(({ chainId, number }) => `${chainId} ${number}`)).size).toBe(900);
    const { root } = (await reads().checkpoint("default"))!;
    expect(rootOf(entries.map(({ hash }) => hash)).equals(root)).toBe(true);
  });

  test("is not folded when nothing has grown, nor with a key that is not in use", async () => {
    expect(await fold()).toEqual({ status: "IDLE", gaps: [] });
    await write(ctx.db, "r1", 2);
    expect(await log().grown()).toEqual(["default"]);
    expect(await log().fold("default", signerOf("other"), 10)).toEqual({ status: "OTHER_KEY", gaps: [] });
    expect(await log().lag()).toMatchObject({ entries: 2 });
    expect(await fold()).toMatchObject({ status: "FOLDED", entries: 2, size: 2, more: false });
    expect(await log().lag()).toEqual({ entries: 0, seconds: 0 });
    expect(await log().grown()).toEqual([]);
  });

  test("goes up to an entry that is missing, says which it is, and goes on with the other chains", async () => {
    await write(ctx.db, "r1", 5);
    await write(ctx.db, "r2", 5);
    await tamper(ctx.db, "audit_entries", "delete from audit_entries where chain_id = 'r1/x' and n = 3");
    expect(await fold()).toMatchObject({
      status: "FOLDED",
      entries: 7,
      gaps: [{ chainId: "r1/x", number: 3, index: 7 }],
    });
    expect(await fold()).toEqual({ status: "IDLE", gaps: [{ chainId: "r1/x", number: 3, index: 7 }] });
    await write(ctx.db, "r2", 5);
    expect(await fold()).toMatchObject({ entries: 5, more: false, gaps: [{ number: 3 }] });
    expect(await reads().missing("default")).toEqual([{ chainId: "r1/x", number: 3 }]);
  });

  test.each([
    [
      "whose tiles were changed",
      ["audit_tiles"],
      ["update audit_tiles set hashes = overlay(hashes placing sha256('x') from 33) where level = 0"],
      { kind: "TREE", index: 5 },
    ],
    [
      "whose tiles were changed and whose checkpoints were removed",
      ["audit_tiles", "audit_checkpoints"],
      [
        "update audit_tiles set hashes = overlay(hashes placing sha256('x') from 33) where level = 0",
        "delete from audit_checkpoints",
      ],
      { kind: "TRUNCATED", index: 0 },
    ],
    [
      "whose last checkpoint is of another size",
      ["audit_checkpoints"],
      ["update audit_checkpoints set size = 4"],
      { kind: "TRUNCATED", index: 4 },
    ],
    [
      "whose checkpoint nobody signed",
      ["audit_checkpoints"],
      ["update audit_checkpoints set note = left(note, length(note) - 10) || E'AAAAAAA==\\n'"],
      { kind: "SIGNATURE", index: 5 },
    ],
  ])("does not sign what goes on from a log %s", async (_, tables, texts, fault) => {
    await write(ctx.db, "r1", 5);
    const repository = log();
    expect(await repository.fold("default", signerOf(), 10)).toMatchObject({ status: "FOLDED" });
    for (const [i, text] of texts.entries()) await tamper(ctx.db, tables[i]!, text);
    await write(ctx.db, "r1", 1);
    for (const one of [repository, log()]) {
      expect(await one.fold("default", signerOf(), 10)).toMatchObject({ status: "DAMAGED", fault });
    }
  });

  test("does not sign what goes on from a checkpoint that another key has signed", async () => {
    await write(ctx.db, "r1", 5);
    await fold();
    const { size, root } = (await reads().checkpoint("default"))!;
    const forged = signerOf("forger").sign("default", size, root);
    await tamper(ctx.db, "audit_checkpoints", "update audit_checkpoints set note = $1", [forged]);
    await write(ctx.db, "r1", 1);
    expect(await fold()).toMatchObject({ status: "DAMAGED", fault: { kind: "SIGNATURE", index: 5 } });
  });

  test("goes on when the database's clock is set back", async () => {
    await write(ctx.db, "r1", 1);
    await fold();
    await tamper(ctx.db, "audit_checkpoints", "update audit_checkpoints set created_at = now() + interval '1 hour'");
    await write(ctx.db, "r1", 1);
    expect(await log().grown()).toEqual(["default"]);
  });

  test("keeps what was signed", async () => {
    await write(ctx.db, "r1", 5);
    await fold();
    for (const text of [
      "update audit_entries set body = 'x'",
      "delete from audit_entries",
      "update audit_logs set size = 1",
      "delete from audit_logs",
      "update audit_tiles set hashes = substr(hashes, 1, 32)",
      "update audit_spans set count = 1",
      "update audit_checkpoints set note = 'x'",
      "delete from audit_checkpoints",
      "insert into audit_checkpoints values ('default', 4, decode(repeat('00', 32), 'hex'), 'x', now())",
      "delete from audit_keys",
    ]) {
      await expect(raw(ctx.db, text), text).rejects.toThrow("would change what the audit log has proven");
    }
  });

  test("seals the chains of replicas that are gone; those that grow after all are open again at once", async () => {
    await write(ctx.db, "r1", 5);
    await log().seal();
    const sealed = async () => (await raw(ctx.db, "select sealed from audit_chains")).map((row) => row.sealed);
    expect(await sealed()).toEqual([false]);
    await fold();
    await log().seal();
    expect(await sealed()).toEqual([true]);
    await write(ctx.db, "r1", 1);
    expect(await sealed()).toEqual([false]);
    expect(await log().lag()).toMatchObject({ entries: 1 });
    expect(await reads().pending("default", {}, 10)).toHaveLength(1);
    await log().seal();
    expect(await sealed()).toEqual([false]);
    expect(await fold()).toMatchObject({ status: "FOLDED", size: 6 });
  });

  test("lists by what entries say, also those that are in no checkpoint yet", async () => {
    await write(ctx.db, "r1", 4, { taskId: "t1" });
    await write(ctx.db, "r2", 4);
    await write(ctx.db, "r1", 4, { workspaceId: "other" });
    await fold();
    await write(ctx.db, "r1", 2, { taskId: "t1" });
    const numbers = (found: { number: number }[]) => found.map(({ number }) => number);
    expect(await reads().entries("default", 0, 8, { actor: "even" })).toHaveLength(4);
    expect(await reads().entries("default", 0, 8, { actor: "eve" })).toHaveLength(0);
    expect(
      await reads().entries("default", 2, 6, { targetType: "thing", action: "test.write", result: "OK" }),
    ).toHaveLength(4);
    expect(numbers(await reads().pending("default", {}, 10))).toEqual([6, 5]);
    const ofTask = await reads().ofTask("default", { taskId: "t1" }, undefined, 3);
    expect(ofTask.map(({ index }) => index)).toEqual([undefined, undefined, 3]);
    expect(numbers(await reads().ofTask("default", { taskId: "t1" }, 3, 10))).toEqual([3, 2, 1]);
    expect(await reads().workspaces()).toEqual(["default"]);
  });
});
