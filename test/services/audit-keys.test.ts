/** Keys that sign the audit log, one after the other. */
import { beforeEach, expect, test } from "vitest";
import { isSignedBy, readNote, readVerifierKey } from "../../src/domain/audit/checkpoint.ts";
import { type GivenKeys, openAuditSigner } from "../../src/services/audit/signer.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createAuditLogRepository } from "../../src/store/audit-log-repository.ts";
import { keyOf, ORIGIN } from "../fixtures/audit-log.ts";
import { write } from "../store/audit-lab.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { contextOf, openAuditService } from "./audit-service-lab.ts";

const runtime = systemRuntime();

describeEachBackend("keys of the audit log", (ctx) => {
  const { keys, service, faults, exported, verdictOn } = openAuditService(ctx);

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
