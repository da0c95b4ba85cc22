/** Where the policies of workspaces are kept. */
import { beforeEach, expect, test } from "vitest";
import { createPolicyRepository, type StoredPolicy } from "../../src/store/policy-repository.ts";
import { describeEachBackend } from "./backends.ts";
import { raw } from "./tables.ts";

const policy = (version: number, document = `version: 1 # ${version}`): StoredPolicy => ({
  version,
  document,
  digest: `digest-${version}`,
  ruleCount: version,
  budgetCount: 0,
  author: "anonymous",
  comment: "",
  createdAt: new Date("2026-01-02T00:00:00Z"),
});

describeEachBackend("policies", (ctx) => {
  const policies = () => createPolicyRepository(ctx.db);

  beforeEach(async () => {
    await raw(ctx.db, "delete from policy_versions");
    await raw(ctx.db, "insert into workspaces (workspace_id) values ('other') on conflict do nothing");
  });

  test("are kept whole, version by version, each in its workspace", async () => {
    expect(await policies().latest("default")).toBe(0);
    for (const version of [1, 2, 3]) expect(await policies().add("default", policy(version))).toBe(true);
    const large = policy(1, "# \u{1f6a6}\n".repeat(600_000));
    await policies().add("other", large);
    expect(await policies().latest("default")).toBe(3);
    expect(await policies().latest("other")).toBe(1);
    expect(await policies().get("default", 2)).toEqual(policy(2));
    expect(await policies().get("other", 1)).toEqual(large);
    expect(await policies().get("other", 2)).toBeUndefined();
  });

  test("are listed without their documents, the latest first", async () => {
    for (let version = 1; version <= 5; version++) await policies().add("default", policy(version));
    await policies().add("other", policy(1));
    const listed = await policies().list("default", undefined, 2);
    expect(listed.map(({ version }) => version)).toEqual([5, 4]);
    expect(listed[0]).not.toHaveProperty("document");
    expect((await policies().list("default", 4, 10)).map(({ version }) => version)).toEqual([3, 2, 1]);
  });

  test("have one version of each number, whoever is faster", async () => {
    const added = await Promise.all(Array.from({ length: 8 }, () => policies().add("default", policy(1))));
    expect(added.filter(Boolean)).toHaveLength(1);
  });
});
