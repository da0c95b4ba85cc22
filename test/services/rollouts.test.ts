/** Rollouts as they are changed by call, and as they are held for whoever routes. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, describe, expect, test } from "vitest";
import { type Rollout, RolloutSchema, type UpdateRolloutRequest } from "../../gen/signalbox/v1/rollout_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { DEFAULT_ROLLOUT } from "../../src/domain/rollout.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createRolloutSettings } from "../../src/services/rollout-settings.ts";
import { createRollouts } from "../../src/services/rollouts.ts";
import { type Runtime, systemRuntime } from "../../src/services/runtime.ts";
import { createRolloutRepository, type RolloutRecord } from "../../src/store/rollout-repository.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

const context = { workspaceId: "default" } as RequestContext;
type Init = Parameters<typeof create<typeof RolloutSchema>>[1];

const request = (rollout: Init, paths?: string[]) =>
  ({
    rollout: create(RolloutSchema, rollout),
    ...(paths && { updateMask: { $typeName: "google.protobuf.FieldMask", paths } }),
  }) as UpdateRolloutRequest;

const fallsBackTo = (...ids: string[]) => ids.map((value) => ({ target: { case: "capabilityId" as const, value } }));

const refusal = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable("it was not refused"),
    (error: unknown) => {
      if (!(error instanceof SignalboxError)) throw error;
      return { reason: error.reason, fields: error.violations.map(({ field }) => field), message: error.message };
    },
  );

describeEachBackend("rollouts", (ctx) => {
  const runtime = systemRuntime();
  function open() {
    const repository = createRolloutRepository(ctx.db);
    const rollouts = createRollouts(repository, runtime);
    return { rollouts, ...createRolloutSettings({ repository, rollouts, audit: noAudit, runtime }) };
  }
  beforeEach(() => raw(ctx.db, "delete from rollouts"));

  test("that were never changed have the defaults and no etag, and are not listed", async () => {
    const { get, list, rollouts } = open();
    expect(await get(context, "fly")).toMatchObject({
      capabilityId: "fly",
      etag: "",
      canaryEnabled: false,
      routeModeDefault: 1,
      alertThresholds: { errorRate: 0.05, p95Ms: 3000n, retryRate: 0.2, circuitOpenRate: 0.05 },
    });
    expect(await list(context)).toEqual([]);
    await rollouts.load("default");
    expect(rollouts.of("default", "fly")).toBe(DEFAULT_ROLLOUT);
    expect(rollouts.load("default")).toBeUndefined();
  });

  test("are changed by what the mask names, and the change is seen at once", async () => {
    const { update, get, rollouts } = open();
    await rollouts.load("default");
    const first = await update(context, request({ capabilityId: "fly", canaryPercent: 5, rollbackToLocal: true }));
    expect(first).toMatchObject({ capabilityId: "fly", etag: '"1"', canaryPercent: 5, rollbackToLocal: true });
    const second = await update(context, request({ capabilityId: "fly", canaryPercent: 6 }, ["canary_percent"]));
    expect(second).toMatchObject({ etag: '"2"', canaryPercent: 6, rollbackToLocal: true });
    expect(await get(context, "fly")).toEqual(second);
    await rollouts.load("default");
    expect(rollouts.of("default", "fly").rollbackToLocal).toBe(true);
    expect(rollouts.of("default", "swim")).toBe(DEFAULT_ROLLOUT);
    const whole = await update(context, request({ capabilityId: "fly" }));
    expect(whole).toMatchObject({ canaryPercent: 0, rollbackToLocal: false });
  });

  test("are forgotten, and what comes in their place is not taken for them", async () => {
    const { update, remove, list, rollouts } = open();
    const other = open().rollouts;
    expect(await refusal(remove(context, "fly"))).toMatchObject({ reason: "ROLLOUT_NOT_FOUND" });
    expect(await refusal(remove(context, "A.b"))).toMatchObject({ fields: ["capabilityId"] });
    await update(context, request({ capabilityId: "fly", rollbackToLocal: true }));
    for (const each of [rollouts, other]) await each.load("default");
    await remove(context, "fly");
    expect(await list(context)).toEqual([]);
    await rollouts.load("default");
    expect(rollouts.of("default", "fly")).toBe(DEFAULT_ROLLOUT);
    // It has the same revision, but not the same time.
    const later: Runtime = { ...runtime, now: () => new Date(Date.now() + 1000) };
    const repository = createRolloutRepository(ctx.db);
    const settings = createRolloutSettings({ repository, rollouts, audit: noAudit, runtime: later });
    await settings.update(context, request({ capabilityId: "fly", dualEventWrite: true, compatibilityMode: 2 }));
    other.changed("default");
    await other.load("default");
    expect(other.of("default", "fly")).toMatchObject({ rollbackToLocal: false, dualEventWrite: true });
  });

  test("are guarded by their etag", async () => {
    const { update } = open();
    expect(await refusal(update(context, request({ etag: '"1"' })))).toMatchObject({ reason: "ETAG_MISMATCH" });
    const { etag } = await update(context, request({ canaryPercent: 1 }));
    const next = await update(context, request({ canaryPercent: 2, etag: `W/${etag}` }));
    expect(await refusal(update(context, request({ canaryPercent: 3, etag })))).toMatchObject({
      reason: "ETAG_MISMATCH",
    });
    expect(next.canaryPercent).toBe(2);
  });

  test.each<[string, UpdateRolloutRequest, string[]]>([
    ["no rollout", {} as UpdateRolloutRequest, ["rollout"]],
    ["an id that is none", request({ capabilityId: "A.b" }), ["rollout.capabilityId"]],
    ["paths of nothing", request({}, ["canary", "hedging.enabled"]), ["updateMask", "updateMask"]],
    ["a canary over 100", request({ canaryPercent: 101 }), ["rollout.canaryPercent"]],
  ])("are refused for %s, and nothing is stored", async (_, wrong, fields) => {
    const { update, list } = open();
    expect(await refusal(update(context, wrong))).toMatchObject({ reason: "INVALID_ARGUMENT", fields });
    expect(await list(context)).toEqual([]);
  });

  test("are checked as they will be, not as they were sent", async () => {
    const { update } = open();
    const target = { target: { case: "agentId" as const, value: "new" } };
    await update(context, request({ canaryTarget: target }, ["canary_target"]));
    await update(context, request({ canaryEnabled: true }, ["canary_enabled"]));
    const gone = await refusal(update(context, request({}, ["canary_target"])));
    expect(gone.fields).toEqual(["rollout.canaryTarget"]);
  });

  test("are refused when chains come back over the chains of others, also at the same moment", async () => {
    const { update, list } = open();
    await update(context, request({ capabilityId: "a", fallbackChain: fallsBackTo("b") }));
    await update(context, request({ capabilityId: "b", fallbackChain: fallsBackTo("x", "c") }));
    const { fields, message } = await refusal(
      update(context, request({ capabilityId: "c", fallbackChain: fallsBackTo("a") })),
    );
    expect(fields).toEqual(["rollout.fallbackChain"]);
    expect(message).toContain("c -> a -> b -> c");
    const both = await Promise.allSettled([
      update(context, request({ capabilityId: "p", fallbackChain: fallsBackTo("q") })),
      update(context, request({ capabilityId: "q", fallbackChain: fallsBackTo("p") })),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await list(context)).toHaveLength(3);
    // The workspace's chain is nobody's step: it cannot come back.
    await update(context, request({ fallbackChain: fallsBackTo("a", "b", "c") }));
  });

  test("are 1000 at most in a workspace", async () => {
    const { update } = open();
    await raw(
      ctx.db,
      `insert into rollouts (workspace_id, capability_id, body, revision, updated_at)
       select 'default', 'c-' || n, '', 1, now() from generate_series(1, 1000) n`,
    );
    expect(await refusal(update(context, request({ capabilityId: "fly" })))).toMatchObject({
      reason: "TOO_MANY_ROLLOUTS",
    });
    await update(context, request({ capabilityId: "c-7", canaryPercent: 1 }));
  });

  test("of a workspace steer what has none of its own; its rollback steers all", async () => {
    const { update, rollouts } = open();
    await update(context, request({ canaryPercent: 1, compatibilityMode: 2, dualEventWrite: true }));
    await update(context, request({ capabilityId: "fly", fallbackChain: fallsBackTo("swim") }));
    await rollouts.load("default");
    expect(rollouts.of("default", undefined).dualEventWrite).toBe(true);
    expect(rollouts.of("default", "swim")).toBe(rollouts.of("default", undefined));
    expect(rollouts.of("default", "fly")).toMatchObject({ dualEventWrite: false, rollbackToLocal: false });
    expect([rollouts.owns("default", "fly"), rollouts.owns("default", "swim")]).toEqual([true, false]);
    await update(context, request({ rollbackToLocal: true }, ["rollback_to_local"]));
    await rollouts.load("default");
    expect(rollouts.of("default", "fly")).toMatchObject({ rollbackToLocal: true, fallbackChain: [{}] });
    expect(rollouts.of("other", "fly")).toBe(DEFAULT_ROLLOUT);
  });
});

describe("what is held of rollouts", () => {
  const record = (revision: number, change: Init = {}): RolloutRecord => ({
    capabilityId: "",
    given: create(RolloutSchema, change) as Rollout,
    revision,
    updatedAt: new Date(0),
  });

  /** A repository whose answers come when the test says so, and a clock that stands. */
  function held() {
    const asked: PromiseWithResolvers<RolloutRecord[]>[] = [];
    const clock = { ms: 0 };
    const rollouts = createRollouts(
      {
        list() {
          const answer = Promise.withResolvers<RolloutRecord[]>();
          asked.push(answer);
          return answer.promise;
        },
      },
      { ...systemRuntime(), elapsedMs: () => clock.ms },
    );
    return { rollouts, asked, clock };
  }

  test("is asked for once a second at most, by all who wait together", async () => {
    const { rollouts, asked, clock } = held();
    const first = rollouts.load("default");
    expect(rollouts.load("default")).toBe(first);
    asked[0]!.resolve([]);
    await first;
    clock.ms = 999;
    expect(rollouts.load("default")).toBeUndefined();
    clock.ms = 1000;
    expect(rollouts.load("default")).toBeDefined();
    expect(asked).toHaveLength(2);
  });

  test("is the same object as long as nothing changes", async () => {
    const { rollouts, asked, clock } = held();
    const loads = async (records: RolloutRecord[]) => {
      const loading = rollouts.load("default");
      asked.at(-1)!.resolve(records);
      await loading;
      clock.ms += 1000;
      return rollouts.of("default", undefined);
    };
    const first = await loads([record(1, { rollbackToLocal: true })]);
    expect(await loads([record(1, { rollbackToLocal: true })])).toBe(first);
    expect(await loads([record(2)])).not.toBe(first);
  });

  test("is not what was read before a change", async () => {
    const { rollouts, asked } = held();
    const before = rollouts.load("default");
    rollouts.changed("default");
    const after = rollouts.load("default");
    asked[1]!.resolve([record(2, { rollbackToLocal: true })]);
    await after;
    asked[0]!.resolve([record(1)]);
    await before;
    expect(rollouts.of("default", undefined).rollbackToLocal).toBe(true);
  });

  test("stays when it cannot be read anew, and is asked for again", async () => {
    const { rollouts, asked, clock } = held();
    const first = rollouts.load("default");
    asked[0]!.resolve([record(1, { rollbackToLocal: true })]);
    await first;
    clock.ms = 1000;
    const second = rollouts.load("default");
    asked[1]!.reject(new Error("away"));
    await expect(second).rejects.toThrow("away");
    expect(rollouts.of("default", undefined).rollbackToLocal).toBe(true);
    expect(rollouts.load("default")).toBeDefined();
  });
});
