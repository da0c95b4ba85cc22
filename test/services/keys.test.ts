/** API keys: who may make them, how they end, and what is told and recorded of them. */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, it } from "vitest";
import {
  type CreateKeyResponse,
  KeyKind,
  ListKeysRequestSchema,
  RevokeKeyRequestSchema,
  RotateKeyRequestSchema,
} from "../../gen/signalbox/v1/workspace_pb.ts";
import { makeFirstKey } from "../../src/services/identity/first-key.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createExpiredRows } from "../../src/store/expired-rows.ts";
import { describeEachBackend } from "../store/backends.ts";
import { bearer, contextOf, credentialsOf, identityServer, movedClock, newKeyOf } from "./identity-lab.ts";

const admin = contextOf("admin");
const HOUR_MS = 3_600_000;
const REFUSED = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };

const rotation = (keyId: string, more = {}) => create(RotateKeyRequestSchema, { keyId, ...more });
const revocation = (keyId: string, more = {}) => create(RevokeKeyRequestSchema, { keyId, ...more });
const listing = (more = {}) => create(ListKeysRequestSchema, more);
const idOf = ({ key }: CreateKeyResponse) => key!.keyId;

describeEachBackend("API keys", (context) => {
  const entries = async (keyId: string) => {
    const rows = await context.db.query({ name: "t-audit", text: "select body from audit_entries" }, []);
    return rows.map((row) => JSON.stringify(row)).filter((text) => text.includes(keyId));
  };
  const addWorkspace = (id: string) =>
    context.db.kysely
      .insertInto("workspaces")
      .values({ workspace_id: id })
      .onConflict((c) => c.doNothing())
      .execute();

  it("are made, and let their principal in", async () => {
    const { keys, byKey } = identityServer(context.db);
    const made = await keys.create(
      admin,
      newKeyOf({ principalId: "bob", roles: ["caller"], scopes: ["cache.read"], agentId: "writer" }),
    );
    expect(made.token).toMatch(/^sbx_[a-z0-9]{16}_[A-Za-z0-9_-]{43}$/);
    expect(made.key).toMatchObject({
      kind: KeyKind.BEARER,
      principalId: "bob",
      createdBy: "ann",
      workspaceId: "default",
    });
    const identity = await byKey.identify(bearer(made.token));
    expect(identity).toEqual({
      id: "bob",
      authentication: "api-key",
      actors: [],
      granted: { workspaceId: "default", roles: ["caller"], scopes: ["cache.read"], agentId: "writer" },
    });
    // Known by now: at once, and the same object.
    expect(byKey.identify(bearer(made.token))).toBe(identity);
    expect(byKey.identify(credentialsOf({ "x-api-key": made.token }))).toBe(identity);
    expect(byKey.identify(credentialsOf({ authorization: `bearer ${made.token}` }))).toBe(identity);
  });

  it("leave neither their secret nor its hash in lists, rows and the audit log", async () => {
    const { keys } = identityServer(context.db);
    const made = await keys.create(admin, newKeyOf({ principalId: "eve", roles: ["viewer"] }));
    const signs = await keys.create(admin, newKeyOf({ principalId: "eve", roles: ["viewer"], kind: KeyKind.HMAC }));
    const { keys: listed } = await keys.list(admin, listing({ principalId: "eve" }));
    expect(listed.map(({ keyId }) => keyId).sort()).toEqual([idOf(made), idOf(signs)].sort());
    const rows = await context.db.kysely.selectFrom("api_keys").selectAll().execute();
    const text = JSON.stringify([listed, rows, await entries("key")], (_, value) =>
      value instanceof Uint8Array
        ? Buffer.from(value).toString("latin1")
        : typeof value === "bigint"
          ? String(value)
          : value,
    );
    for (const { token } of [made, signs]) expect(text).not.toContain(token.slice(-43));
  });

  it("are given by nobody who does not hold what they give", async () => {
    const { keys } = identityServer(context.db);
    const some = contextOf(["keys.admin", "tasks.read"]);
    const give = (given: object) => keys.create(some, newKeyOf({ principalId: some.principal.id, ...given }));
    await expect(give({ roles: ["admin"] })).rejects.toMatchObject({
      reason: "ROLE_NOT_HELD",
      metadata: { role: "admin" },
    });
    await expect(give({ scopes: ["tasks.write"] })).rejects.toMatchObject({ reason: "ROLE_NOT_HELD" });
    await expect(give({ scopes: ["*"] })).rejects.toMatchObject({ code: "PERMISSION_DENIED", reason: "ROLE_NOT_HELD" });
    await expect(give({ scopes: ["tasks.read"] })).resolves.toBeDefined();
    const operator = contextOf(["keys.admin", "tasks.all"], { roles: new Set(["operator"]) });
    await expect(keys.create(operator, newKeyOf({ principalId: "b", roles: ["operator"] }))).resolves.toBeDefined();
    // Nor do they get one by rotating that of somebody who holds more.
    const mighty = await keys.create(admin, newKeyOf({ principalId: "root", roles: ["admin"] }));
    await expect(keys.rotate(some, rotation(idOf(mighty)))).rejects.toMatchObject({ reason: "ROLE_NOT_HELD" });
    // And nobody locks out who may do more.
    const revoking = keys.revoke(some, revocation(idOf(mighty)));
    await expect(revoking).rejects.toMatchObject({ reason: "ROLE_NOT_HELD" });
  });

  it("are made in nobody's name who may do what the giver may not", async () => {
    const { keys } = identityServer(context.db);
    const keeper = (...more: string[]) => contextOf(["keys.admin", "tasks.read", ...more]);
    const named = (by: RequestContext, given: object) =>
      keys.create(by, newKeyOf({ principalId: by.principal.id, scopes: ["tasks.read"], ...given }));
    await expect(named(keeper(), { principalId: "alice" })).rejects.toMatchObject({
      reason: "ROLE_NOT_HELD",
      metadata: { scope: "tasks.all" },
    });
    await expect(named(keeper(), { agentId: "echo" })).rejects.toMatchObject({ metadata: { scope: "agents.write" } });
    await expect(named(keeper("tasks.all"), { principalId: "alice" })).resolves.toBeDefined();
    await expect(named(keeper("agents.write"), { agentId: "echo" })).resolves.toBeDefined();
  });

  it.each([
    [{ principalId: "Bob" }, "key.principalId"],
    [{ principalId: "a".repeat(64) }, "key.principalId"],
    [{ principalId: "anonymous" }, "key.principalId"],
    [{ principalId: "spiffe/x" }, "key.principalId"],
    [{ roles: [] }, "key.roles"],
    [{ roles: ["king"] }, "key.roles"],
    [{ roles: ["viewer", "viewer"] }, "key.roles"],
    [{ scopes: ["tasks"] }, "key.scopes"],
    [
      {
        scopes: Array.from(
          { length: 65 },
          (_, i) => `a${"b".repeat(i % 8)}-${String.fromCharCode(97 + (i % 26))}${"c".repeat(i >> 3)}.read`,
        ),
      },
      "key.scopes",
    ],
    [{ agentId: "no agent" }, "key.agentId"],
    [{ description: "x".repeat(257) }, "key.description"],
    [{ description: "\0" }, "key.description"],
    [{ kind: 7 as KeyKind }, "key.kind"],
    [{ expireTime: timestampFromDate(new Date(0)) }, "key.expireTime"],
    [
      { expireTime: { $typeName: "google.protobuf.Timestamp" as const, seconds: 10n ** 15n, nanos: 0 } },
      "key.expireTime",
    ],
  ])("are refused with %o", async (given, field) => {
    const { keys } = identityServer(context.db);
    const making = keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"], ...given }));
    await expect(making).rejects.toMatchObject({ reason: "INVALID_ARGUMENT", violations: [{ field }] });
  });

  it("of another workspace are for those who run the router, and others hear nothing of it", async () => {
    await addWorkspace("team");
    const { keys } = identityServer(context.db);
    const made = await keys.create(admin, newKeyOf({ principalId: "tim", roles: ["admin"], workspaceId: "team" }));
    expect(made.key).toMatchObject({ workspaceId: "team" });
    const tim = contextOf("admin", { id: "tim", workspaceId: "team" });
    expect((await keys.list(tim, listing())).keys).toHaveLength(1);
    expect((await keys.list(admin, listing({ workspaceId: "team" }))).keys).toHaveLength(1);
    const own = await keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"] }));
    const errorOf = (doing: Promise<unknown>) =>
      doing.then(
        () => expect.unreachable(),
        (error) => error as Error,
      );
    for (const ask of [
      (workspaceId: string) => keys.create(tim, newKeyOf({ principalId: "x", roles: ["caller"], workspaceId })),
      (workspaceId: string) => keys.list(tim, listing({ workspaceId })),
      (workspaceId: string) => keys.rotate(tim, rotation(idOf(own), { workspaceId })),
      (workspaceId: string) => keys.revoke(tim, revocation(idOf(own), { workspaceId })),
    ]) {
      const [there, missing] = [await errorOf(ask("default")), await errorOf(ask("missing"))];
      expect(there).toMatchObject({ code: "NOT_FOUND", reason: "WORKSPACE_NOT_FOUND" });
      expect(missing.message).toBe(there.message.replace("default", "missing"));
    }
    await expect(
      keys.create(admin, newKeyOf({ principalId: "x", roles: ["caller"], workspaceId: "missing" })),
    ).rejects.toMatchObject({ reason: "WORKSPACE_NOT_FOUND" });
    await expect(keys.list(admin, listing({ workspaceId: "missing" }))).rejects.toMatchObject({
      reason: "WORKSPACE_NOT_FOUND",
    });
    // A key of another workspace is not there.
    await expect(keys.revoke(tim, revocation(idOf(own)))).rejects.toMatchObject({ reason: "KEY_NOT_FOUND" });
    await expect(keys.rotate(tim, rotation(idOf(own)))).rejects.toMatchObject({ reason: "KEY_NOT_FOUND" });
    // And says in the other's log whose admin it was.
    expect((await entries(idOf(made))).join()).toContain("by_workspace");
  });

  it("are listed by pages, the latest first", async () => {
    await addWorkspace("pages");
    const clock = movedClock();
    const { keys } = identityServer(context.db, { runtime: clock });
    const made: string[] = [];
    for (let i = 0; i < 5; i++) {
      made.push(
        idOf(await keys.create(admin, newKeyOf({ principalId: `p${i}`, roles: ["caller"], workspaceId: "pages" }))),
      );
      clock.move(1);
    }
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page = await keys.list(admin, listing({ workspaceId: "pages", pageSize: 2, pageToken }));
      pages.push(page.keys.map(({ keyId }) => keyId));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages.map((page) => page.length)).toEqual([2, 2, 1]);
    expect(pages.flat()).toEqual(made.toReversed());
    await expect(keys.list(admin, listing({ pageToken: "!" }))).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
  });

  it("end when their time comes", async () => {
    const clock = movedClock();
    const { keys, byKey } = identityServer(context.db, { runtime: clock });
    const expireTime = timestampFromDate(new Date(clock.now().getTime() + 100));
    const { token } = await keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"], expireTime }));
    await byKey.identify(bearer(token));
    clock.move(99);
    expect(byKey.identify(bearer(token))).toMatchObject({ id: "bob" });
    clock.move(1);
    expect(() => byKey.identify(bearer(token))).toThrow("not accepted");
  });

  it("go on beside the one that takes their place, as long as they are told", async () => {
    const clock = movedClock();
    const { keys, byKey } = identityServer(context.db, { runtime: clock });
    const old = await keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"], description: "d" }));
    const fresh = await keys.rotate(admin, rotation(idOf(old), { overlap: { seconds: 3_600n, nanos: 0 } }));
    expect(fresh.key).toMatchObject({ principalId: "bob", roles: ["caller"], description: "d", kind: KeyKind.BEARER });
    expect(fresh.key!.expireTime).toBeUndefined();
    const [before] = (await keys.list(admin, listing({ principalId: "bob" }))).keys.filter(
      ({ keyId }) => keyId === idOf(old),
    );
    expect(timestampDate(before!.expireTime!).getTime()).toBe(clock.now().getTime() + HOUR_MS);
    clock.move(HOUR_MS - 1);
    expect(await byKey.identify(bearer(old.token))).toMatchObject({ id: "bob" });
    expect(await byKey.identify(bearer(fresh.token))).toMatchObject({ id: "bob" });
    clock.move(1);
    await expect(async () => byKey.identify(bearer(old.token))).rejects.toMatchObject(REFUSED);
    expect(await byKey.identify(bearer(fresh.token))).toMatchObject({ id: "bob" });
    await expect(keys.rotate(admin, rotation(idOf(old)))).rejects.toMatchObject({ reason: "KEY_NOT_ACTIVE" });
  });

  it("are followed by keys that last as long as they were made to, and never go on longer than they would have", async () => {
    const clock = movedClock();
    const { keys } = identityServer(context.db, { runtime: clock });
    const start = clock.now().getTime();
    const expireTime = timestampFromDate(new Date(start + 2 * HOUR_MS));
    const old = await keys.create(admin, newKeyOf({ principalId: "rita", roles: ["caller"], expireTime }));
    clock.move(HOUR_MS);
    const second = await keys.rotate(admin, rotation(idOf(old)));
    expect(timestampDate(second.key!.expireTime!).getTime()).toBe(start + 3 * HOUR_MS);
    const third = await keys.rotate(admin, rotation(idOf(old), { overlap: { seconds: 0n, nanos: 0 } }));
    expect(timestampDate(third.key!.expireTime!).getTime()).toBe(start + 3 * HOUR_MS);
    const [first] = (await keys.list(admin, listing({ principalId: "rita" }))).keys.filter(
      ({ keyId }) => keyId === idOf(old),
    );
    expect(timestampDate(first!.expireTime!).getTime()).toBe(start + HOUR_MS);
    for (const overlap of [
      { seconds: -1n, nanos: 0 },
      { seconds: 2_592_000n, nanos: 1_000_000 },
      { seconds: 2n ** 62n, nanos: 0 },
    ]) {
      await expect(keys.rotate(admin, rotation(idOf(third), { overlap }))).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
      });
    }
  });

  it("are revoked here at once, elsewhere within a second, and once only", async () => {
    const clock = movedClock();
    const [a, b] = [identityServer(context.db, { runtime: clock }), identityServer(context.db, { runtime: clock })];
    const { token, key } = await a.keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"] }));
    const keyId = key!.keyId;
    await a.byKey.identify(bearer(token));
    await b.byKey.identify(bearer(token));
    const revoked = await a.keys.revoke(admin, revocation(keyId));
    expect(revoked.revokeTime).toBeDefined();
    expect(() => a.byKey.identify(bearer(token))).toThrow("not accepted");
    clock.move(1_000);
    await expect(async () => b.byKey.identify(bearer(token))).rejects.toMatchObject(REFUSED);
    clock.move(5_000);
    expect((await b.keys.revoke(admin, revocation(keyId))).revokeTime).toEqual(revoked.revokeTime);
    expect((await entries(keyId)).filter((entry) => entry.includes("key.revoke"))).toHaveLength(1);
    await expect(a.keys.rotate(admin, rotation(keyId))).rejects.toMatchObject({ reason: "KEY_NOT_ACTIVE" });
  });

  it("are no more than a thousand that hold, in each workspace", async () => {
    await addWorkspace("full");
    const { keys, repository } = identityServer(context.db);
    const row = { workspace_id: "full", kind: 1, principal_id: "p", roles: ["caller"], scopes: [], description: "" };
    const rest = {
      created_at: new Date(),
      created_by: "",
      agent_id: null,
      secret_sealed: null,
      expires_at: null,
      last_used_at: null,
    };
    const rows = Array.from({ length: 1_001 }, (_, i) => ({
      ...row,
      ...rest,
      key_id: `full${i}`,
      lasts_ms: null,
      secret_hash: Buffer.alloc(32),
      revoked_at: i < 2 ? new Date() : null,
    }));
    await context.db.kysely.insertInto("api_keys").values(rows).execute();
    const request = () => newKeyOf({ principalId: "last", roles: ["caller"], workspaceId: "full" });
    // Of two that want the last place, one has it.
    const outcomes = await Promise.allSettled([keys.create(admin, request()), keys.create(admin, request())]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const [lost] = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
    expect(lost).toMatchObject({ code: "FAILED_PRECONDITION", reason: "TOO_MANY_KEYS" });
    await expect(keys.rotate(admin, rotation("full5", { workspaceId: "full" }))).rejects.toMatchObject({
      reason: "TOO_MANY_KEYS",
    });
    expect(await repository.get("full", "full5")).toMatchObject({ expiresAt: undefined });
  });

  it("are not made where there is nothing to keep their secret with", async () => {
    const server = identityServer(context.db);
    const { createSecretBox } = await import("../../src/services/identity/secret-box.ts");
    const { createKeys } = await import("../../src/services/identity/keys.ts");
    const keys = createKeys({ ...server, box: createSecretBox([]) });
    const making = keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"], kind: KeyKind.HMAC }));
    await expect(making).rejects.toMatchObject({ code: "FAILED_PRECONDITION", reason: "SECRETS_KEY_MISSING" });
  });

  it("say to the minute when they were used last", async () => {
    const clock = movedClock();
    const { keys, byKey, known } = identityServer(context.db, { runtime: clock });
    const made = await keys.create(admin, newKeyOf({ principalId: "ursula", roles: ["caller"] }));
    const lastUse = async () => (await keys.list(admin, listing({ principalId: "ursula" }))).keys[0]!.lastUseTime;
    await known.find(idOf(made));
    const wrong = made.token.slice(0, -1) + (made.token.endsWith("A") ? "B" : "A");
    await expect(async () => byKey.identify(bearer(wrong))).rejects.toMatchObject(REFUSED);
    await known.noteUses();
    expect(await lastUse()).toBeUndefined();
    await byKey.identify(bearer(made.token));
    await known.noteUses();
    expect(timestampDate((await lastUse())!).getTime()).toBe(Math.floor(clock.now().getTime() / 60_000) * 60_000);
  });

  it("that have ended are swept after a long time, as are nonces after theirs", async () => {
    const { keys, nonces } = identityServer(context.db);
    const rows = createExpiredRows(context.db);
    const made = await keys.create(admin, newKeyOf({ principalId: "gone", roles: ["caller"] }));
    await keys.revoke(admin, revocation(idOf(made)));
    await rows.removeApiKeys(new Date(Date.now() - HOUR_MS), 10_000);
    expect((await keys.list(admin, listing({ principalId: "gone" }))).keys).toHaveLength(1);
    expect(await rows.removeApiKeys(new Date(Date.now() + HOUR_MS), 10_000)).toBeGreaterThanOrEqual(1);
    expect((await keys.list(admin, listing({ principalId: "gone" }))).keys).toHaveLength(0);
    const nonce = { keyId: "k", nonce: "n", expiresAt: new Date(1_000) };
    expect([await nonces.take(nonce), await nonces.take(nonce)]).toEqual([true, false]);
    expect(await rows.removeNonces(new Date(999), 10)).toBe(0);
    expect(await rows.removeNonces(new Date(1_000), 10)).toBe(1);
  });
});

describeEachBackend("the first key", (context) => {
  const settings = { anonymousRole: "none" as const, hasAdminKey: false };

  it("is made once, by one of several servers that start together, and never again", async () => {
    const servers = Array.from({ length: 4 }, () => identityServer(context.db));
    // Nobody needs it where everybody is an admin, or where one is configured.
    expect(await makeFirstKey({ ...servers[0]!, ...settings, anonymousRole: "admin" })).toBeUndefined();
    expect(await makeFirstKey({ ...servers[0]!, ...settings, hasAdminKey: true })).toBeUndefined();
    const made = await Promise.all(servers.map((server) => makeFirstKey({ ...server, ...settings })));
    const tokens = made.filter((token) => token !== undefined);
    expect(tokens).toHaveLength(1);
    const { byKey, keys } = servers[0]!;
    expect(await byKey.identify(bearer(tokens[0]!))).toMatchObject({
      id: "admin",
      granted: { workspaceId: "default", roles: ["admin"] },
    });
    await keys.revoke(admin, revocation(tokens[0]!.slice(4, 20)));
    expect(await makeFirstKey({ ...servers[1]!, ...settings })).toBeUndefined();
    const rows = await context.db.query({ name: "t-first", text: "select body from audit_entries" }, []);
    const recorded = rows.map((row) => String(row.body)).filter((body) => body.includes("key.create"));
    expect(recorded).toHaveLength(1);
    expect(recorded[0]).toContain("router:");
  });
});

describeEachBackend("where an admin has a key already", (context) => {
  it("no first key is made", async () => {
    const server = identityServer(context.db);
    await server.keys.create(admin, newKeyOf({ principalId: "root", roles: ["admin"] }));
    expect(await makeFirstKey({ ...server, anonymousRole: "none", hasAdminKey: false })).toBeUndefined();
    expect(await context.db.kysely.selectFrom("first_key").selectAll().execute()).toEqual([]);
  });
});
