/** Workspaces and their members, as those who run the router, their own admins and others may see and change them. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { beforeEach, expect, it } from "vitest";
import {
  CreateWorkspaceRequestSchema,
  ListMembersRequestSchema,
  ListWorkspacesRequestSchema,
  PutMemberRequestSchema,
  QuotasSchema,
  RemoveMemberRequestSchema,
  SetQuotasRequestSchema,
  SuspendWorkspaceRequestSchema,
} from "../../gen/signalbox/v1/workspace_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { by, type Identity, openIdentity, recorded } from "./workspaces-lab.ts";

describeEachBackend("workspaces", (ctx) => {
  let one: Identity;
  beforeEach(async () => {
    await raw(ctx.db, "truncate members, grants, audit_entries, audit_chains cascade");
    await raw(ctx.db, "delete from agents");
    await raw(ctx.db, "delete from workspaces where workspace_id <> 'default'");
    one = openIdentity(ctx.db);
  });

  const make = (workspaceId: string, displayName = "") =>
    one.workspaces.create(
      by("default"),
      create(CreateWorkspaceRequestSchema, { workspace: { workspaceId, displayName } }),
    );
  const suspend = (workspaceId: string, reason = "") =>
    one.workspaces.suspend(by("default"), create(SuspendWorkspaceRequestSchema, { workspaceId, reason }));
  const put = (context: ReturnType<typeof by>, member: MessageInitShape<typeof PutMemberRequestSchema>["member"]) =>
    one.members.put(context, create(PutMemberRequestSchema, member ? { member } : {}));
  const setQuotas = (
    context: ReturnType<typeof by>,
    workspaceId: string,
    quotas: MessageInitShape<typeof SetQuotasRequestSchema>["quotas"],
  ) => one.workspaces.setQuotas(context, create(SetQuotasRequestSchema, { workspaceId, ...(quotas && { quotas }) }));

  async function refusal(of: Promise<unknown>): Promise<Pick<SignalboxError, "code" | "reason" | "message">> {
    const error = await of.then(
      () => expect.fail("it was not refused"),
      (thrown: unknown) => thrown,
    );
    if (!(error instanceof SignalboxError)) throw error;
    return { code: error.code, reason: error.reason, message: error.message };
  }

  it("are made, listed page by page, and seen by their own", async () => {
    expect(await make("acme", "Acme & Söhne")).toMatchObject({ workspaceId: "acme", displayName: "Acme & Söhne" });
    await make("bolt");
    expect(await refusal(make("acme"))).toMatchObject({ code: "ALREADY_EXISTS", reason: "WORKSPACE_EXISTS" });
    const ids: string[] = [];
    for (let pageToken = "", pages = 0; pages === 0 || pageToken !== ""; pages++) {
      const request = create(ListWorkspacesRequestSchema, { pageSize: 1, pageToken });
      const page = await one.workspaces.list(by("default"), request);
      ids.push(...page.workspaces.map(({ workspaceId }) => workspaceId));
      pageToken = page.nextPageToken;
    }
    expect(ids).toEqual(["acme", "bolt", "default"]);
    const own = await one.workspaces.list(by("acme"), create(ListWorkspacesRequestSchema));
    expect(own.workspaces.map(({ workspaceId }) => workspaceId)).toEqual(["acme"]);
    expect((await one.workspaces.get(by("acme"), "")).workspaceId).toBe("acme");
    expect(await recorded(ctx.db, "acme")).toEqual([
      {
        action: "workspace.create",
        actor: "admin",
        id: "acme",
        detail: { by_workspace: "default", name: "Acme & Söhne" },
      },
    ]);
    expect((await recorded(ctx.db, "default")).map(({ id }) => id)).toEqual(["acme", "bolt"]);
  });

  it.each(["", "Acme", "-a", "a".repeat(64), "a.b", "all", "self"])("refuse the id %j", async (id) => {
    expect(await refusal(make(id))).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(await recorded(ctx.db, "default")).toEqual([]);
  });

  it("are not told from those that are not there", async () => {
    await make("acme");
    await make("bolt");
    const calls: ((named: string) => Promise<unknown>)[] = [
      (named) => one.workspaces.get(by("acme"), named),
      (named) => one.workspaces.getQuotas(by("acme"), named),
      (named) => one.members.list(by("acme"), create(ListMembersRequestSchema, { workspaceId: named })),
      (named) => put(by("acme"), { workspaceId: named, principalId: "spiffe/mesh/a", roles: ["viewer"] }),
      (named) =>
        one.members.remove(
          by("acme"),
          create(RemoveMemberRequestSchema, { workspaceId: named, principalId: "spiffe/mesh/a" }),
        ),
    ];
    for (const call of calls) {
      const [there, nowhere] = [await refusal(call("bolt")), await refusal(call("nope"))];
      expect(there).toMatchObject({ code: "NOT_FOUND", reason: "WORKSPACE_NOT_FOUND" });
      expect(nowhere.message.replace("nope", "bolt")).toBe(there.message);
    }
    // Who runs the router may name any.
    expect((await one.workspaces.get(by("default"), "acme")).workspaceId).toBe("acme");
    for (const call of [
      () => one.workspaces.get(by("default"), "nope"),
      () => one.members.list(by("default"), create(ListMembersRequestSchema, { workspaceId: "nope" })),
      () => put(by("default"), { workspaceId: "nope", principalId: "spiffe/mesh/a", roles: ["viewer"] }),
      () => suspend("nope"),
      () => one.workspaces.resume(by("default"), "nope"),
      () => setQuotas(by("default"), "nope", {}),
    ]) {
      expect(await refusal(call())).toMatchObject({ reason: "WORKSPACE_NOT_FOUND" });
    }
  });

  it("are made and changed by nobody but who runs the router", async () => {
    await make("acme");
    for (const context of [by("acme"), by("default", { roles: ["operator"] })]) {
      for (const call of [
        one.workspaces.create(context, create(CreateWorkspaceRequestSchema, { workspace: { workspaceId: "mine" } })),
        one.workspaces.suspend(context, create(SuspendWorkspaceRequestSchema, { workspaceId: "acme" })),
        one.workspaces.resume(context, "acme"),
        setQuotas(context, "", { tasksInFlight: 1 }),
      ]) {
        expect(await refusal(call)).toMatchObject({ code: "PERMISSION_DENIED", reason: "NOT_THE_ROUTER" });
      }
    }
  });

  it("are suspended and resumed once, with an entry each time that something changes", async () => {
    await make("acme");
    const first = await suspend("acme", "unpaid");
    expect(first).toMatchObject({ suspendReason: "unpaid", suspendTime: { seconds: expect.any(BigInt) } });
    expect(await suspend("acme", "again")).toEqual(first);
    expect(await one.known.standing("acme")).toBe("suspended");
    const resumed = await one.workspaces.resume(by("default"), "acme");
    expect(resumed).toMatchObject({ suspendReason: "" });
    expect(resumed.suspendTime).toBeUndefined();
    expect(await one.known.standing("acme")).toBe("active");
    await one.workspaces.resume(by("default"), "acme");
    expect((await recorded(ctx.db, "acme")).map(({ action }) => action)).toEqual([
      "workspace.create",
      "workspace.suspend",
      "workspace.resume",
    ]);
    expect(await refusal(suspend("default"))).toMatchObject({
      code: "FAILED_PRECONDITION",
      reason: "WORKSPACE_NEEDED",
    });
    expect(await refusal(suspend("acme", "x".repeat(1_025)))).toMatchObject({ code: "INVALID_ARGUMENT" });
  });

  it("have quotas that are replaced as a whole, under their etag", async () => {
    await make("acme");
    const none = await one.workspaces.getQuotas(by("acme"), "");
    expect(none.quotas).toEqual(create(QuotasSchema, { etag: '"0"' }));
    const said = { tasksPerSecond: 5, storedBytes: 2n ** 40n, etag: none.quotas!.etag };
    const set = await setQuotas(by("default"), "acme", said);
    expect(set).toMatchObject({ tasksPerSecond: 5, storedBytes: 2n ** 40n, etag: '"1"' });
    expect((await one.workspaces.getQuotas(by("acme"), "")).quotas).toEqual(set);
    expect(await refusal(setQuotas(by("default"), "acme", said))).toMatchObject({
      code: "ABORTED",
      reason: "ETAG_MISMATCH",
    });
    const less = await setQuotas(by("default"), "acme", { streams: 3 });
    expect(less).toEqual(create(QuotasSchema, { streams: 3, etag: '"2"' }));
    expect(await recorded(ctx.db, "acme")).toContainEqual({
      action: "quotas.set",
      actor: "admin",
      id: "acme",
      detail: { by_workspace: "default", revision: 1, storedBytes: "1099511627776", tasksPerSecond: 5 },
    });
    for (const wrong of [
      { tasksPerSecond: 0 },
      { tasksInFlight: 10_000_001 },
      { storedBytes: 1_048_575n },
      { streams: -1 },
      { principalCallsPerSecond: 1_000_001 },
    ]) {
      const { message } = await refusal(setQuotas(by("default"), "acme", wrong));
      expect(message).toContain(`quotas.${Object.keys(wrong)[0]}`);
    }
  });

  it("have members, whose rights are no more than those of who gives them", async () => {
    await make("acme");
    const principalId = "jwt/login.example/anna";
    const stored = await put(by("acme"), { principalId, roles: ["caller", "caller"], scopes: ["audit.admin"] });
    expect(stored).toMatchObject({
      workspaceId: "acme",
      roles: ["caller"],
      scopes: ["audit.admin"],
      createdBy: "admin",
    });
    await put(by("default"), { workspaceId: "acme", principalId, roles: ["admin"], agentId: "writer" });
    expect(await one.known.memberships(principalId)).toEqual([
      { workspaceId: "acme", roles: ["admin"], scopes: [], agentId: "writer", implied: true },
    ]);
    const keeper = by("acme", { roles: ["caller"], scopes: ["members.admin"] });
    for (const given of [{ roles: ["viewer"] }, { roles: ["admin"] }, { scopes: ["*"] }, { scopes: ["keys.admin"] }]) {
      expect(await refusal(put(keeper, { principalId, ...given }))).toMatchObject({
        code: "PERMISSION_DENIED",
        reason: "ROLE_NOT_HELD",
      });
    }
    await put(keeper, { principalId: "jwt/login.example/ben", roles: ["caller"], scopes: ["members.admin"] });
    const listed = await one.members.list(by("acme"), create(ListMembersRequestSchema, { pageSize: 1 }));
    expect(listed.members.map((member) => member.principalId)).toEqual([principalId]);
    const rest = await one.members.list(
      by("acme"),
      create(ListMembersRequestSchema, { pageToken: listed.nextPageToken }),
    );
    expect(rest.members.map((member) => member.principalId)).toEqual(["jwt/login.example/ben"]);
    await one.members.remove(by("acme"), create(RemoveMemberRequestSchema, { principalId }));
    expect(await one.known.memberships(principalId)).toEqual([]);
    const again = one.members.remove(by("acme"), create(RemoveMemberRequestSchema, { principalId }));
    expect(await refusal(again)).toMatchObject({ code: "NOT_FOUND", reason: "MEMBER_NOT_FOUND" });
    const actions = (await recorded(ctx.db, "acme")).map(({ action }) => action);
    expect(actions).toEqual(["workspace.create", "member.put", "member.put", "member.put", "member.remove"]);
  });

  it.each([
    [{ principalId: "" }],
    [{ principalId: "anna" }],
    [{ principalId: "jwt/login.example/" }],
    [{ principalId: "jwt/*" }],
    [{ principalId: "spiffe/*" }],
    [{ principalId: "spiffe/mesh/pay*" }],
    [{ principalId: "spiffe/mesh/*/pay" }],
    [{ principalId: "agent:translator" }],
    [{ principalId: "spiffe/mesh/a\u0007" }],
    [{ principalId: `spiffe/mesh/${"x".repeat(2_048)}` }],
    [{ principalId: `spiffe/mesh/${"x/".repeat(31)}*` }],
    [{ principalId: "spiffe/mesh/a", roles: ["root"] }],
    [{ principalId: "spiffe/mesh/a", scopes: ["tasks"] }],
    [{ principalId: "spiffe/mesh/a", roles: [] }],
    [{ principalId: "spiffe/mesh/a", agentId: "No!" }],
  ])("refuse the member %j", async (wrong) => {
    const given = put(by("default"), { roles: ["viewer"], ...wrong });
    expect(await refusal(given)).toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/member\./),
    });
  });

  it("find members by their ids, and by the beginnings that entries with a * name", async () => {
    await make("acme");
    await make("bolt");
    await put(by("acme"), { principalId: "spiffe/mesh/ns/*", roles: ["viewer"] });
    await put(by("acme"), { principalId: "spiffe/mesh/ns/pay/sa/x", roles: ["caller"] });
    await put(by("bolt"), { principalId: "spiffe/mesh/ns/pay/*", roles: ["agent"] });
    const found = async (id: string) =>
      (await one.known.memberships(id)).map(({ workspaceId, roles }) => `${workspaceId} ${roles.join()}`);
    expect(await found("spiffe/mesh/ns/pay/sa/x")).toEqual(["acme viewer", "acme caller", "bolt agent"]);
    expect(await found("spiffe/mesh/ns/other")).toEqual(["acme viewer"]);
    expect(await found("spiffe/mesh/nsx/pay")).toEqual([]);
    expect(await found("spiffe/other/ns/pay")).toEqual([]);
    expect(await found("spiffe/mesh/ns/*")).toEqual(["acme viewer"]);
    const deep = `spiffe/mesh/ns/pay/${"d/".repeat(900)}x`;
    expect(await found(deep)).toEqual(["acme viewer", "bolt agent"]);
  });
});
