/** Where rollouts are kept. */
import { create } from "@bufbuild/protobuf";
import { beforeEach, expect, test } from "vitest";
import { type Rollout, RolloutSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import { createRolloutRepository, type RolloutRecord } from "../../src/store/rollout-repository.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const NOW = new Date("2026-01-02T00:00:00Z");

const saying = (capabilityId: string, canaryPercent = 0): Rollout =>
  create(RolloutSchema, { capabilityId, canaryPercent, mirror: { agentId: "m", percent: 1 } });

describeEachBackend("rollouts", (ctx) => {
  const rollouts = () => createRolloutRepository(ctx.db);
  const put = (workspace: string, capability: string, percent = 0) =>
    rollouts().update(workspace, capability, () => saying(capability, percent), NOW);

  beforeEach(async () => {
    await raw(ctx.db, "delete from rollouts");
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
  });

  test("are kept as they were given, each with the number of its changes", async () => {
    const first = await put("default", "fly", 1);
    expect(first).toEqual({ capabilityId: "fly", given: saying("fly", 1), revision: 1, updatedAt: NOW });
    expect(await put("default", "fly", 2)).toMatchObject({ given: { canaryPercent: 2 }, revision: 2 });
    expect(await rollouts().get("default", "fly")).toMatchObject({ given: { canaryPercent: 2 }, revision: 2 });
    expect(await rollouts().get("default", "swim")).toBeUndefined();
  });

  test("are their workspace's, its own first", async () => {
    await put("default", "swim");
    await put("default", "fly");
    await put("default", "");
    await put("other", "dive");
    const ids = async (workspace: string) => (await rollouts().list(workspace)).map(({ capabilityId }) => capabilityId);
    expect(await ids("default")).toEqual(["", "fly", "swim"]);
    expect(await ids("other")).toEqual(["dive"]);
  });

  test("are changed with a view of all, and not when that throws", async () => {
    await put("default", "fly", 1);
    const seen: (RolloutRecord | undefined)[] = [];
    await rollouts().update(
      "default",
      "swim",
      (current, all) => {
        seen.push(current, ...all);
        return saying("swim");
      },
      NOW,
    );
    expect(seen.map((one) => one?.capabilityId)).toEqual([undefined, "fly"]);
    const refused = rollouts().update(
      "default",
      "fly",
      () => {
        throw new Error("no");
      },
      NOW,
    );
    await expect(refused).rejects.toThrow("no");
    expect(await rollouts().get("default", "fly")).toMatchObject({ revision: 1 });
  });

  test("are changed one after another: each change sees those before it", async () => {
    const change = (capabilityId: string) =>
      rollouts().update(
        "default",
        capabilityId,
        (_, all) =>
          saying(
            capabilityId,
            all.reduce((sum, { given }) => sum + given.canaryPercent, 1),
          ),
        NOW,
      );
    await Promise.all(["a", "b", "c", "d", "e"].map(change));
    const percents = (await rollouts().list("default")).map(({ given }) => given.canaryPercent);
    expect(percents.sort((a, b) => a - b)).toEqual([1, 2, 4, 8, 16]);
  });

  test("cannot be of a workspace that there is not", async () => {
    await expect(put("nowhere", "")).rejects.toThrow();
  });
});
