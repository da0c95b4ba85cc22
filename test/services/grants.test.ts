/** What workspaces lend each other, and that nobody's view of members and grants holds another's rows. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { beforeEach, expect, it } from "vitest";
import {
  AcceptGrantRequestSchema,
  type Grant,
  GrantState,
  ListGrantsRequestSchema,
  ListMembersRequestSchema,
  OfferGrantRequestSchema,
  PutMemberRequestSchema,
  RemoveMemberRequestSchema,
} from "../../gen/signalbox/v1/workspace_pb.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { expectWholeChains } from "../store/audit-lines.ts";
import { describeEachBackend } from "../store/backends.ts";
import { raw } from "../store/tables.ts";
import { by, type Identity, openIdentity, recorded } from "./workspaces-lab.ts";

const SPACES = ["acme", "bolt", "core"] as const;
const HOUR_MS = 3_600_000;

describeEachBackend("grants", (ctx) => {
  let one: Identity;
  beforeEach(async () => {
    await raw(ctx.db, "truncate members, grants, audit_entries, audit_chains cascade");
    await raw(ctx.db, "delete from agents");
    one = openIdentity(ctx.db);
    for (const id of SPACES) {
      await raw(ctx.db, "insert into workspaces (workspace_id) values ($1) on conflict do nothing", [id]);
      await one.agent(id, "writer");
      await one.agent(id, `${id}-own`);
    }
  });

  const offer = (from: string, grant: MessageInitShape<typeof OfferGrantRequestSchema>["grant"]) =>
    one.grants.offer(by(from), create(OfferGrantRequestSchema, grant ? { grant } : {}));
  const accept = (workspaceId: string, { grantId }: Pick<Grant, "grantId">, aliasAgentId = "") =>
    one.grants.accept(by(workspaceId), create(AcceptGrantRequestSchema, { grantId, aliasAgentId }));
  const list = async (workspaceId: string, given: MessageInitShape<typeof ListGrantsRequestSchema> = {}) =>
    (await one.grants.list(by(workspaceId), create(ListGrantsRequestSchema, given))).grants;
  /** Time passes for a grant. */
  const expire = ({ grantId }: Grant) =>
    raw(ctx.db, "update grants set expires_at = clock_timestamp() - interval '1 ms' where grant_id = $1", [grantId]);

  async function reasonOf(of: Promise<unknown>): Promise<string> {
    try {
      await of;
    } catch (error) {
      if (error instanceof SignalboxError) return error.reason;
      throw error;
    }
    return "OK";
  }

  it("are offered, accepted under an id of their own, and ended, in the logs of both sides", async () => {
    const offered = await offer("acme", { consumerWorkspaceId: "bolt", agentId: "writer", capabilityId: "translate" });
    expect(offered).toMatchObject({
      providerWorkspaceId: "acme",
      consumerWorkspaceId: "bolt",
      capabilityId: "translate",
      state: GrantState.PENDING,
      offeredBy: "admin",
    });
    expect(await list("bolt")).toEqual([offered]);
    expect(await list("core")).toEqual([]);
    expect(await reasonOf(accept("core", offered))).toBe("GRANT_NOT_FOUND");
    expect(await reasonOf(accept("acme", offered))).toBe("GRANT_NOT_FOUND");
    expect(await reasonOf(accept("bolt", offered))).toBe("AGENT_EXISTS");
    const accepted = await accept("bolt", offered, "acme-writer");
    expect(accepted).toMatchObject({ state: GrantState.ACTIVE, aliasAgentId: "acme-writer", acceptedBy: "admin" });
    expect(one.changed.sort()).toEqual(["acme", "bolt"]);
    expect(await reasonOf(accept("bolt", offered, "again"))).toBe("GRANT_NOT_PENDING");
    expect(await reasonOf(one.grants.revoke(by("core"), offered.grantId))).toBe("GRANT_NOT_FOUND");
    const ended = await one.grants.revoke(by("bolt"), offered.grantId);
    expect(ended.state).toBe(GrantState.REVOKED);
    expect(await one.grants.revoke(by("acme"), offered.grantId)).toEqual(ended);
    const actionsOf = async (side: string) => (await recorded(ctx.db, side)).map(({ action, id }) => [action, id]);
    const all = ["grant.offer", "grant.accept", "grant.revoke"].map((each) => [each, offered.grantId]);
    expect(await actionsOf("acme")).toEqual(all);
    // What is offered is no business of its log.
    expect(await actionsOf("bolt")).toEqual(all.slice(1));
    expect(await recorded(ctx.db, "core")).toEqual([]);
    await expectWholeChains(ctx.db);
  });

  it("write nothing into the log of who has not accepted", async () => {
    const offered = await offer("acme", { consumerWorkspaceId: "bolt", agentId: "writer" });
    await one.grants.revoke(by("acme"), offered.grantId);
    expect(await recorded(ctx.db, "bolt")).toEqual([]);
    const another = await offer("acme", { consumerWorkspaceId: "bolt", agentId: "writer" });
    await one.grants.revoke(by("bolt"), another.grantId);
    expect((await recorded(ctx.db, "bolt")).map(({ action }) => action)).toEqual(["grant.revoke"]);
  });

  it("are offered to whoever is named, there or not, with the same answer", async () => {
    const [there, nowhere] = await Promise.all(
      ["bolt", "nope"].map((consumerWorkspaceId) => offer("acme", { consumerWorkspaceId, agentId: "writer" })),
    );
    const { grantId: _a, createTime: _b, consumerWorkspaceId: _c, ...same } = there!;
    expect(nowhere).toMatchObject(same);
    expect((await recorded(ctx.db, "acme")).map(({ action }) => action)).toEqual(["grant.offer", "grant.offer"]);
  });

  it.each<[string, MessageInitShape<typeof OfferGrantRequestSchema>["grant"]]>([
    ["INVALID_ARGUMENT", { consumerWorkspaceId: "", agentId: "writer" }],
    ["INVALID_ARGUMENT", { consumerWorkspaceId: "No!", agentId: "writer" }],
    ["INVALID_ARGUMENT", { consumerWorkspaceId: "acme", agentId: "writer" }],
    [
      "INVALID_ARGUMENT",
      { consumerWorkspaceId: "bolt", agentId: "writer", expireTime: timestampFromDate(new Date(0)) },
    ],
    ["AGENT_NOT_FOUND", { consumerWorkspaceId: "bolt", agentId: "bolt-own" }],
    ["AGENT_NOT_FOUND", { consumerWorkspaceId: "bolt", agentId: "" }],
    ["CAPABILITY_NOT_FOUND", { consumerWorkspaceId: "bolt", agentId: "writer", capabilityId: "sing" }],
  ])("refuse with %s the offer %#", async (reason, grant) => {
    expect(await reasonOf(offer("acme", grant))).toBe(reason);
    expect(await recorded(ctx.db, "acme")).toEqual([]);
  });

  it("end with their time, by the clock of the database, and give their id free", async () => {
    const expireTime = timestampFromDate(new Date(Date.now() + HOUR_MS));
    const given = { consumerWorkspaceId: "bolt", agentId: "acme-own", expireTime };
    const [used, unused] = [await offer("acme", given), await offer("acme", given)];
    await accept("bolt", used);
    await expire(used);
    await expire(unused);
    expect((await list("bolt", { state: GrantState.EXPIRED })).map(({ grantId }) => grantId)).toEqual(
      [unused, used].map(({ grantId }) => grantId),
    );
    expect(await list("bolt", { state: GrantState.ACTIVE })).toEqual([]);
    expect(await reasonOf(accept("bolt", unused))).toBe("GRANT_NOT_PENDING");
    const next = await offer("acme", given);
    expect((await accept("bolt", next)).aliasAgentId).toBe("acme-own");
    expect((await list("bolt")).map(({ state }) => state)).toEqual([
      GrantState.ACTIVE,
      GrantState.EXPIRED,
      GrantState.EXPIRED,
    ]);
  });

  it("come page by page, the latest first, whichever side one is on", async () => {
    const made: string[] = [];
    for (let i = 0; i < 3; i++) {
      made.unshift((await offer("acme", { consumerWorkspaceId: "bolt", agentId: "writer" })).grantId);
      made.unshift((await offer("bolt", { consumerWorkspaceId: "acme", agentId: "writer" })).grantId);
    }
    const seen: string[] = [];
    for (let pageToken = "", pages = 0; pages === 0 || pageToken !== ""; pages++) {
      const page = await one.grants.list(by("acme"), create(ListGrantsRequestSchema, { pageSize: 4, pageToken }));
      seen.push(...page.grants.map(({ grantId }) => grantId));
      pageToken = page.nextPageToken;
    }
    expect(seen).toEqual(made);
  });

  it("are accepted once under one id, however many come at one time, and crossing ones wait for nobody for ever", async () => {
    const offers = await Promise.all(
      SPACES.flatMap((from) =>
        SPACES.filter((to) => to !== from).map((to) =>
          offer(from, { consumerWorkspaceId: to, agentId: `${from}-own` }),
        ),
      ),
    );
    const outcomes = await Promise.all(
      offers.flatMap((grant) => [
        reasonOf(accept(grant.consumerWorkspaceId, grant, "lent")),
        reasonOf(accept(grant.consumerWorkspaceId, grant, "lent")),
      ]),
    );
    // Each of the three has the one id once.
    expect(outcomes.filter((outcome) => outcome === "OK")).toHaveLength(3);
    for (const id of SPACES) {
      const active = (await list(id, { state: GrantState.ACTIVE })).filter((g) => g.consumerWorkspaceId === id);
      expect(active.map(({ aliasAgentId }) => aliasAgentId)).toEqual(["lent"]);
    }
    await expectWholeChains(ctx.db);
  });

  it("and members are seen by their own workspaces alone, whatever was done to them", async () => {
    const space = fc.constantFrom(...SPACES);
    const member = fc.constantFrom("jwt/iss/a", "jwt/iss/b", "spiffe/mesh/*", "spiffe/mesh/x");
    const deed = fc.oneof(
      fc.record({ kind: fc.constant("put" as const), space, member }),
      fc.record({ kind: fc.constant("remove" as const), space, member, named: space }),
      fc.record({ kind: fc.constant("offer" as const), space, to: space }),
      fc.record({ kind: fc.constant("accept" as const), space, nth: fc.nat(5) }),
      fc.record({ kind: fc.constant("revoke" as const), space, nth: fc.nat(5) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(deed, { maxLength: 25 }), async (deeds) => {
        await raw(ctx.db, "truncate members, grants");
        // What was held knows nothing of that.
        one = openIdentity(ctx.db);
        const members = new Map<string, Set<string>>(SPACES.map((id) => [id, new Set()]));
        const grants: { from: string; to: string; grantId: string; state: number; alias: string }[] = [];
        for (const each of deeds) {
          if (each.kind === "put") {
            const said = { principalId: each.member, roles: ["viewer"] };
            await one.members.put(by(each.space), create(PutMemberRequestSchema, { member: said }));
            members.get(each.space)!.add(each.member);
          } else if (each.kind === "remove") {
            const given = { principalId: each.member, workspaceId: each.named };
            const outcome = await reasonOf(
              one.members.remove(by(each.space), create(RemoveMemberRequestSchema, given)),
            );
            const isOwn = each.named === each.space;
            const removed = isOwn && members.get(each.space)!.delete(each.member);
            expect(outcome).toBe(removed ? "OK" : isOwn ? "MEMBER_NOT_FOUND" : "WORKSPACE_NOT_FOUND");
          } else if (each.kind === "offer") {
            if (each.to === each.space) continue;
            const { grantId } = await offer(each.space, { consumerWorkspaceId: each.to, agentId: `${each.space}-own` });
            grants.push({ from: each.space, to: each.to, grantId, state: GrantState.PENDING, alias: "" });
          } else {
            const grant = grants[each.nth];
            if (!grant) continue;
            if (each.kind === "accept") {
              const taken = grants.some(
                ({ to, alias, state }) => to === grant.to && alias === `${grant.from}-own` && state === 2,
              );
              const wanted =
                grant.to !== each.space
                  ? "GRANT_NOT_FOUND"
                  : grant.state !== GrantState.PENDING
                    ? "GRANT_NOT_PENDING"
                    : taken
                      ? "AGENT_EXISTS"
                      : "OK";
              expect(await reasonOf(accept(each.space, grant))).toBe(wanted);
              if (wanted === "OK") Object.assign(grant, { state: GrantState.ACTIVE, alias: `${grant.from}-own` });
            } else {
              const isSide = grant.from === each.space || grant.to === each.space;
              const outcome = await reasonOf(one.grants.revoke(by(each.space), grant.grantId));
              expect(outcome).toBe(isSide ? "OK" : "GRANT_NOT_FOUND");
              if (isSide) grant.state = GrantState.REVOKED;
            }
          }
        }
        for (const id of SPACES) {
          const { members: seen } = await one.members.list(by(id), create(ListMembersRequestSchema));
          expect(seen.map(({ principalId }) => principalId)).toEqual([...members.get(id)!].sort());
          expect(seen.every(({ workspaceId }) => workspaceId === id)).toBe(true);
          const own = grants.filter(({ from, to }) => from === id || to === id).map((g) => [g.grantId, g.state]);
          expect((await list(id)).map((g) => [g.grantId, g.state])).toEqual(own.reverse());
        }
        for (const principalId of ["jwt/iss/a", "spiffe/mesh/x", "spiffe/mesh/y"]) {
          const entries = principalId.startsWith("spiffe") ? [principalId, "spiffe/mesh/*"] : [principalId];
          const wanted = SPACES.filter((id) => entries.some((entry) => members.get(id)!.has(entry)));
          const found = await one.known.memberships(principalId);
          expect([...new Set(found.map(({ workspaceId }) => workspaceId))]).toEqual(wanted);
        }
      }),
      { numRuns: 15 },
    );
  });
});
