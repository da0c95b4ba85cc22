import { expect, test } from "vitest";
import { SignalboxError, scopeMissing } from "../../src/domain/errors.ts";
import { invalidCredential } from "../../src/domain/identity/errors.ts";
import { startRefusals } from "../../src/services/audit-refusals.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createAuditTrail } from "../../src/store/audit-trail.ts";
import { auditEntries, expectWholeChains } from "../store/audit-lines.ts";
import { describeEachBackend, silent } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const denied = (taskId: string) =>
  new SignalboxError({
    code: "PERMISSION_DENIED",
    reason: "POLICY_DENIED",
    message: "The policy refuses it.",
    metadata: { taskId, rule: "rules[0]" },
  });
const rpc = "lf.a2a.v1.A2AService/SendMessage";
const caller = { workspaceId: "default", principalId: "anonymous" };

describeEachBackend("refused calls", (ctx) => {
  function open(differs: Partial<Runtime> = {}, fails: () => boolean | Promise<boolean> = () => false) {
    const trail = createAuditTrail({ db: ctx.db, enabled: true, replicaId: () => "replica" });
    const runtime = { ...systemRuntime(), elapsedMs: () => 0, ...differs };
    const write: typeof trail.write = async (...given) => {
      if (await fails()) throw new Error("the database is away");
      await trail.write(...given);
    };
    return startRefusals({ trail: { enabled: true, write }, runtime, log: silent, ownWorkspaceId: "default" });
  }
  const empty = () => raw(ctx.db, "truncate audit_entries, audit_chains");

  test("are recorded before their callers are answered, and no others are", async () => {
    await empty();
    const refusals = open();
    const unauthenticated = new SignalboxError({
      code: "UNAUTHENTICATED",
      reason: "NO_TOKEN",
      message: "Who are you?",
    });
    await refusals.record({ caller, rpc, error: denied("task") });
    await refusals.record({ caller, rpc, error: scopeMissing("tasks.write") });
    await refusals.record({ caller: undefined, rpc, error: unauthenticated });
    const missing = new SignalboxError({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND", message: "No." });
    expect(refusals.record({ caller, rpc, error: missing })).toBeUndefined();
    const refused = { chain: "replica/r", action: "call.refuse", target: "rpc", id: rpc };
    expect(await auditEntries(ctx.db)).toMatchObject([
      {
        ...refused,
        ...{ actor: "anonymous", task: "task", result: "POLICY_DENIED" },
        detail: { code: "PERMISSION_DENIED", rule: "rules[0]", taskId: "task" },
      },
      { ...refused, actor: "anonymous", result: "SCOPE_MISSING" },
      { ...refused, actor: "caller:unknown", result: "NO_TOKEN", detail: { code: "UNAUTHENTICATED" } },
    ]);
    await refusals.stop();
  });

  test("of a credential say why it is not good", async () => {
    await empty();
    const refusals = open();
    await refusals.record({ caller: undefined, rpc, error: invalidCredential("it was used before.") });
    expect(await auditEntries(ctx.db)).toMatchObject([
      { actor: "caller:unknown", detail: { why: "The credential of this call is not accepted: it was used before." } },
    ]);
    await refusals.stop();
  });

  test("say who acts for the caller", async () => {
    await empty();
    const refusals = open();
    await refusals.record({ caller: { ...caller, actors: ["jwt/id.example/planner"] }, rpc, error: denied("task") });
    expect(await auditEntries(ctx.db)).toMatchObject([
      { detail: { actors: ["jwt/id.example/planner"], taskId: "task" } },
    ]);
    await refusals.stop();
  });

  test("of a flood are counted, and none is lost", async () => {
    await empty();
    const refusals = open();
    await Promise.all(Array.from({ length: 500 }, (_, i) => refusals.record({ caller, rpc, error: denied(`${i}`) })));
    const names = Array.from({ length: 3_000 }, (_, i) => ({ ...caller, principalId: `caller-${i}` }));
    await Promise.all(names.map((name) => refusals.record({ caller: name, rpc, error: denied("task") })));
    await refusals.stop();
    await expectWholeChains(ctx.db);
    const entries = await auditEntries(ctx.db);
    const calls = entries.reduce((sum, { detail }) => sum + ((detail?.count as number | undefined) ?? 1), 0);
    expect(calls).toBe(3_500);
    expect(entries.length).toBeLessThan(2_100);
    expect(entries.filter(({ actor, detail }) => actor === "anonymous" && detail?.count === 480)).toHaveLength(1);
    expect(entries.filter(({ actor }) => actor === "caller:many")).toHaveLength(1);
  });

  test("keep nobody waiting while the database is away, and are recorded when it is back", async () => {
    await empty();
    let isAway = true;
    const refusals = open({}, () => isAway);
    await refusals.record({ caller, rpc, error: denied("task") });
    expect(await auditEntries(ctx.db)).toEqual([]);
    isAway = false;
    await refusals.stop();
    expect(await auditEntries(ctx.db)).toMatchObject([{ result: "POLICY_DENIED", detail: { count: 1 } }]);
  });

  /** Pauses that the test ends, by their length in milliseconds. */
  function pausing() {
    const pauses = new Map<number, () => void>();
    const wait: Runtime["wait"] = (ms, signal) =>
      new Promise((resolve, reject) => {
        pauses.set(ms, resolve);
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    return { pauses, wait };
  }

  test("keep nobody waiting for longer than a quarter of a second, and are recorded all the same", async () => {
    await empty();
    const { pauses, wait } = pausing();
    const stuck = Promise.withResolvers<boolean>();
    const refusals = open({ wait }, () => stuck.promise);
    const recorded = refusals.record({ caller, rpc, error: denied("task") });
    await expect.poll(() => pauses.has(250)).toBe(true);
    pauses.get(250)!();
    await recorded;
    expect(await auditEntries(ctx.db)).toEqual([]);
    stuck.resolve(false);
    await refusals.stop();
    expect(await auditEntries(ctx.db)).toMatchObject([{ result: "POLICY_DENIED", task: "task" }]);
  });

  test("that are counted become entries after a second, with the time of the first of them", async () => {
    await empty();
    const { pauses, wait } = pausing();
    let now = Date.UTC(2026, 0, 1);
    const later = () => {
      now += 1_000;
      return new Date(now);
    };
    const slow = Promise.withResolvers<boolean>();
    // The first cannot be stored, and is counted; while the count is written another cannot; then neither can the count.
    const answers = [true, slow.promise, true, false];
    const refusals = open({ wait, now: later }, () => answers.shift()!);
    await refusals.record({ caller, rpc, error: denied("task") });
    await expect.poll(() => pauses.has(1_000)).toBe(true);
    pauses.get(1_000)!();
    await expect.poll(() => answers.length).toBe(2);
    await refusals.record({ caller, rpc, error: denied("task") });
    pauses.clear();
    slow.resolve(true);
    await expect.poll(() => pauses.has(1_000)).toBe(true);
    pauses.get(1_000)!();
    await expect
      .poll(() => auditEntries(ctx.db))
      .toMatchObject([{ detail: { count: 2, since: "2026-01-01T00:00:01.000Z" } }]);
    await refusals.stop();
    expect(await auditEntries(ctx.db)).toHaveLength(1);
  });
});
