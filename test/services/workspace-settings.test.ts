/** How a workspace routes: what may be said, what holds then, and from when on. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  RoutingSettingsSchema,
  UpdateRoutingSettingsRequestSchema,
  WhenNothingFits,
} from "../../gen/signalbox/v1/routing_pb.ts";
import { DEFAULT_WEIGHTS } from "../../src/domain/routing/strategies.ts";
import type { Audit, Deed } from "../../src/services/audit.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createWorkspaceSettings } from "../../src/services/routing/workspace-settings.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import {
  createRoutingSettingsRepository,
  type RoutingSettingsRepository,
} from "../../src/store/routing-settings-repository.ts";
import { noAudit } from "../fixtures/no-audit.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";

type Given = MessageInitShape<typeof RoutingSettingsSchema>;
const context = { workspaceId: "default" } as RequestContext;
const WEIGHTS = { load: 1, latency: 2, cost: 0, errors: 0.5, reputation: 0 };

describeEachBackend("routing settings", (ctx) => {
  async function open(wrap = (repository: RoutingSettingsRepository) => repository) {
    await raw(ctx.db, "delete from routing_settings");
    let clock = 0;
    const runtime = { ...systemRuntime(), elapsedMs: () => clock };
    const repository = createRoutingSettingsRepository(ctx.db);
    const here = createWorkspaceSettings(wrap(repository), runtime, noAudit);
    return {
      here,
      elsewhere: createWorkspaceSettings(repository, runtime, noAudit),
      pass: (ms: number) => {
        clock += ms;
      },
      update: (routingSettings: Given, ...paths: string[]) =>
        here.update(
          context,
          create(UpdateRoutingSettingsRequestSchema, {
            routingSettings,
            ...(paths.length > 0 && { updateMask: { paths } }),
          }),
        ),
    };
  }

  test("are the defaults until somebody says something", async () => {
    const { here } = await open();
    expect(await here.of("default")).toEqual({
      strategy: undefined,
      weights: DEFAULT_WEIGHTS,
      rejects: false,
      revision: 0,
    });
    expect(await here.get(context)).toMatchObject({
      strategy: "",
      weights: DEFAULT_WEIGHTS,
      whenNothingFits: WhenNothingFits.REFUSE,
      revision: 0,
      etag: '"0"',
    });
  });

  test("change as the mask says, wholly without one, and go back to their defaults", async () => {
    const { here, update } = await open();
    const first = await update({ strategy: "lowest-cost", weights: WEIGHTS, whenNothingFits: WhenNothingFits.REJECT });
    expect(first).toMatchObject({ strategy: "LOWEST_COST", weights: WEIGHTS, revision: 1, etag: '"1"' });
    expect(first.updateTime).toBeDefined();
    expect(await here.of("default")).toMatchObject({ strategy: "LOWEST_COST", rejects: true, revision: 1 });
    const second = await update({ strategy: "AFFINITY", whenNothingFits: WhenNothingFits.REFUSE }, "strategy");
    expect(second).toMatchObject({ strategy: "AFFINITY", weights: WEIGHTS, revision: 2 });
    expect(second.whenNothingFits).toBe(WhenNothingFits.REJECT);
    const third = await update({}, "weights", "when_nothing_fits");
    expect(third).toMatchObject({ strategy: "AFFINITY", weights: DEFAULT_WEIGHTS, revision: 3 });
    expect(third.whenNothingFits).toBe(WhenNothingFits.REFUSE);
    const last = await update({});
    expect(last).toMatchObject({ strategy: "", revision: 4 });
    expect(await here.get(context)).toEqual(last);
  });

  test("are recorded with the fields that were named, each once", async () => {
    await raw(ctx.db, "delete from routing_settings");
    const deeds: Deed[] = [];
    const audit: Audit = {
      ...noAudit,
      recording(_, deed) {
        deeds.push(deed);
        return async () => {};
      },
    };
    const settings = createWorkspaceSettings(createRoutingSettingsRepository(ctx.db), systemRuntime(), audit);
    const updateMask = { paths: [...Array<string>(1_000).fill("strategy"), "weights"] };
    await settings.update(context, create(UpdateRoutingSettingsRequestSchema, { routingSettings: {}, updateMask }));
    expect(deeds).toMatchObject([{ action: "routing-settings.put", detail: { fields: ["strategy", "weights"] } }]);
  });

  test("are refused whole, by field", async () => {
    const { here, update } = await open();
    const fieldsOf = (given: Given, ...paths: string[]) =>
      update(given, ...paths).then(
        () => [],
        ({ violations }) => violations.map(({ field }: { field: string }) => field),
      );
    const weights = { ...WEIGHTS, load: Number.NaN, cost: -1, errors: 1e4, reputation: Number.POSITIVE_INFINITY };
    expect(await fieldsOf({ strategy: "best", weights, whenNothingFits: 7 as never })).toEqual([
      "routingSettings.strategy",
      "routingSettings.weights.load",
      "routingSettings.weights.cost",
      "routingSettings.weights.errors",
      "routingSettings.weights.reputation",
      "routingSettings.whenNothingFits",
    ]);
    expect(await fieldsOf({ weights: {} })).toEqual(["routingSettings.weights"]);
    expect(await fieldsOf({ strategy: "AFFINITY" }, "strategy", "etag")).toEqual(["updateMask"]);
    await expect(here.update(context, create(UpdateRoutingSettingsRequestSchema))).rejects.toThrow("routingSettings");
    // What the mask does not name is not looked at.
    expect(await fieldsOf({ strategy: "best", weights: WEIGHTS }, "weights")).toEqual([]);
    expect((await here.get(context)).revision).toBe(1);
  });

  test("with an etag, change only what was read", async () => {
    const { update } = await open();
    await expect(update({ strategy: "AFFINITY", etag: '"1"' })).rejects.toMatchObject({ reason: "ETAG_MISMATCH" });
    expect(await update({ strategy: "AFFINITY", etag: '"0"' })).toMatchObject({ revision: 1 });
    await expect(update({ strategy: "LEAST_LOAD", etag: '"0"' })).rejects.toMatchObject({ code: "ABORTED" });
    expect(await update({ strategy: "LEAST_LOAD", etag: '"1"' })).toMatchObject({ revision: 2 });
    // Proxies weaken and unquote etags.
    expect(await update({ strategy: "AFFINITY", etag: 'W/"2"' })).toMatchObject({ revision: 3 });
    expect(await update({ strategy: "LEAST_LOAD", etag: "3" })).toMatchObject({ revision: 4 });
  });

  test("of two updates at once both are kept, where their masks differ", async () => {
    const { here, update } = await open();
    await Promise.all([update({ strategy: "AFFINITY" }, "strategy"), update({ weights: WEIGHTS }, "weights")]);
    expect(await here.get(context)).toMatchObject({ strategy: "AFFINITY", weights: WEIGHTS, revision: 2 });
  });

  test("are seen at once here, and after a second elsewhere", async () => {
    const { here, elsewhere, update, pass } = await open();
    expect(await elsewhere.of("default")).toMatchObject({ revision: 0 });
    expect(await here.of("default")).toMatchObject({ revision: 0 });
    await update({ strategy: "AFFINITY" });
    expect(await here.of("default")).toMatchObject({ strategy: "AFFINITY", revision: 1 });
    pass(999);
    expect(await elsewhere.of("default")).toMatchObject({ revision: 0 });
    pass(1);
    expect(await elsewhere.of("default")).toMatchObject({ strategy: "AFFINITY", revision: 1 });
  });

  test("that could not be read are asked for again", async () => {
    let fails = true;
    const { here } = await open((repository) => ({
      ...repository,
      get: async (workspaceId) => {
        if (fails) throw new Error("away");
        return repository.get(workspaceId);
      },
    }));
    await expect(here.of("default")).rejects.toThrow("away");
    fails = false;
    expect(await here.of("default")).toMatchObject({ revision: 0 });
  });

  test("of a strategy that only a newer version knows are as if it was not said", async () => {
    const { here } = await open();
    const repository = createRoutingSettingsRepository(ctx.db);
    await repository.put("default", create(RoutingSettingsSchema, { strategy: "ORACLE" }), 0, new Date());
    expect(await here.of("default")).toMatchObject({ strategy: undefined, revision: 1 });
  });
});
