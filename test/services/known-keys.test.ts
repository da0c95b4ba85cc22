/** Keys in memory: how old they may be, what floods cost, what holds while the database is away; and how they are compared. */
import crypto from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it, vi } from "vitest";
import { KeyKind, RevokeKeyRequestSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { matchesSecret, newKeyId, parseKeyToken } from "../../src/domain/identity/key-token.ts";
import { adminKey } from "../../src/services/identity/key-scheme.ts";
import type { ApiKeyRepository } from "../../src/store/api-key-repository.ts";
import { describeEachBackend } from "../store/backends.ts";
import { bearer, contextOf, identityServer, movedClock, newKeyOf } from "./identity-lab.ts";

const admin = contextOf("admin");
const REFUSED = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };

/** A repository whose reads are counted, and fail as long as it is told so. */
function watched() {
  const reads: string[][] = [];
  const state = { away: false, reads, silent: false };
  const repository = (real: ApiKeyRepository): ApiKeyRepository => ({
    ...real,
    async find(keyIds) {
      reads.push([...keyIds]);
      if (state.silent) await new Promise(() => {});
      if (state.away) throw databaseUnavailable();
      return real.find(keyIds);
    },
  });
  return { state, repository };
}

describeEachBackend("keys that are known", (context) => {
  const lab = (options = {}) => {
    const clock = movedClock();
    const { state, repository } = watched();
    return { clock, state, server: identityServer(context.db, { runtime: clock, repository, ...options }) };
  };
  const newToken = async (server: ReturnType<typeof identityServer>, kind: KeyKind = KeyKind.BEARER) =>
    (await server.keys.create(admin, newKeyOf({ principalId: "bob", roles: ["caller"], kind }))).token;

  it("are read once, however many ask, and in the background before they are too old", async () => {
    const { clock, state, server } = lab();
    const token = await newToken(server);
    const all = await Promise.all(Array.from({ length: 100 }, () => server.byKey.identify(bearer(token))));
    expect(new Set(all).size).toBe(1);
    expect(state.reads).toHaveLength(1);
    clock.move(499);
    expect(server.byKey.identify(bearer(token))).toBe(all[0]);
    expect(state.reads).toHaveLength(1);
    clock.move(1);
    // Nobody waits for the background.
    expect(server.byKey.identify(bearer(token))).toBe(all[0]);
    expect(server.byKey.identify(bearer(token))).toBe(all[0]);
    await vi.waitFor(() => expect(state.reads).toHaveLength(2), { timeout: 10_000 });
    clock.move(400);
    expect(server.byKey.identify(bearer(token))).toBe(all[0]);
  });

  it("are asked for anew when they are too old", async () => {
    const { clock, state, server } = lab();
    const token = await newToken(server);
    const first = await server.byKey.identify(bearer(token));
    clock.move(1_000);
    const again = server.byKey.identify(bearer(token));
    expect(again).toBeInstanceOf(Promise);
    expect(await again).toBe(first);
    expect(state.reads).toHaveLength(2);
  });

  it("do not become statements where they are unknown: many share one, and are remembered", async () => {
    const { clock, state, server } = lab();
    const tokens = Array.from({ length: 500 }, () => `sbx_${newKeyId(1, crypto.randomBytes(8))}_${"x".repeat(43)}`);
    const flood = () => Promise.allSettled(tokens.map(async (token) => server.byKey.identify(bearer(token))));
    for (const outcome of await flood()) expect(outcome).toMatchObject({ status: "rejected", reason: REFUSED });
    expect(state.reads).toHaveLength(1);
    clock.move(999);
    expect(() => server.byKey.identify(bearer(tokens[0]!))).toThrow("not accepted");
    await flood();
    expect(state.reads).toHaveLength(1);
    clock.move(1);
    await flood();
    expect(state.reads).toHaveLength(2);
  });

  it("stay known in a flood of ids that nobody has", async () => {
    const { state, server } = lab();
    const token = await newToken(server);
    await server.byKey.identify(bearer(token));
    for (let i = 0; i < 25; i++) {
      const asked = Array.from({ length: 500 }, (_, j) => server.known.find(`flood${i}x${j}`));
      await Promise.all(asked);
    }
    const before = state.reads.length;
    expect(server.byKey.identify(bearer(token))).toMatchObject({ id: "bob" });
    expect(state.reads).toHaveLength(before);
  });

  it("stay good for 30 s while the database is away, and nobody else gets in", async () => {
    const { clock, state, server } = lab();
    const [token, other] = [await newToken(server), await newToken(server)];
    await server.byKey.identify(bearer(token));
    state.away = true;
    for (let waited = 0; waited < 29_000; waited += 1_000) {
      clock.move(1_000);
      expect(await server.byKey.identify(bearer(token))).toMatchObject({ id: "bob" });
    }
    await expect(async () =>
      server.byKey.identify(bearer(`${token.slice(0, -43)}${"x".repeat(43)}`)),
    ).rejects.toMatchObject(REFUSED);
    await expect(async () => server.byKey.identify(bearer(other))).rejects.toMatchObject({ code: "UNAVAILABLE" });
    clock.move(1_000);
    await expect(async () => server.byKey.identify(bearer(token))).rejects.toMatchObject({ code: "UNAVAILABLE" });
    state.away = false;
    clock.move(500);
    expect(await server.byKey.identify(bearer(token))).toMatchObject({ id: "bob" });
  });

  it("do not wait for each other's failures: one call asks, the others go by what is known", async () => {
    const { clock, state, server } = lab();
    const token = await newToken(server);
    await server.byKey.identify(bearer(token));
    state.away = true;
    clock.move(2_000);
    await server.byKey.identify(bearer(token));
    const reads = state.reads.length;
    expect(server.byKey.identify(bearer(token))).toMatchObject({ id: "bob" });
    expect(state.reads).toHaveLength(reads);
  });

  it("of this server's own making end at once, although what was read before says otherwise", async () => {
    const { clock, state, server } = lab();
    const token = await newToken(server);
    const keyId = parseKeyToken(token)!.keyId;
    await server.byKey.identify(bearer(token));
    clock.move(600);
    // Under way while it is revoked.
    server.byKey.identify(bearer(token));
    await server.keys.revoke(admin, create(RevokeKeyRequestSchema, { keyId }));
    expect(() => server.byKey.identify(bearer(token))).toThrow("not accepted");
    await vi.waitFor(() => expect(state.reads.length).toBeGreaterThanOrEqual(2), { timeout: 10_000 });
    expect(() => server.byKey.identify(bearer(token))).toThrow("not accepted");
    state.away = true;
    clock.move(1_000);
    await expect(async () => server.byKey.identify(bearer(token))).rejects.toMatchObject(REFUSED);
  });

  it("that sign are not good as keys that are sent", async () => {
    const { server } = lab();
    const token = await newToken(server, KeyKind.HMAC);
    await expect(async () => server.byKey.identify(bearer(token))).rejects.toMatchObject(REFUSED);
  });

  it("in auth.admin-key need no database", async () => {
    const token = `sbx_boss_${"y".repeat(40)}`;
    const { state, server } = lab({ fixed: adminKey(token) });
    state.silent = true;
    const identity = server.byKey.identify(bearer(token));
    expect(identity).toMatchObject({ id: "admin", granted: { workspaceId: "default", roles: ["admin"] } });
    expect(server.byKey.identify(bearer(token))).toBe(identity);
    expect(() => server.byKey.identify(bearer(`sbx_boss_${"y".repeat(39)}z`))).toThrow("not accepted");
    expect(state.reads).toEqual([]);
  });
});

describe("the comparison of keys", () => {
  afterEach(() => vi.restoreAllMocks());

  it("goes through timingSafeEqual on equal lengths, whatever is wrong, and says the same", async () => {
    const compared: [number, number][] = [];
    const original = crypto.timingSafeEqual;
    vi.spyOn(crypto, "timingSafeEqual").mockImplementation((a, b) => {
      compared.push([a.byteLength, b.byteLength]);
      return original(a, b);
    });
    // Named imports of builtins follow once this is said.
    (await import("node:module")).syncBuiltinESMExports();
    const clock = movedClock();
    const row = (keyId: string, over = {}) => ({
      workspaceId: "default",
      keyId,
      kind: 1,
      principalId: "bob",
      roles: ["caller"],
      scopes: [],
      agentId: undefined,
      description: "",
      createdAt: clock.now(),
      createdBy: "",
      expiresAt: undefined,
      lastsMs: undefined,
      revokedAt: undefined,
      lastUsedAt: undefined,
      secretHash: crypto.createHash("sha256").update("s".repeat(43)).digest(),
      secretSealed: undefined,
      ...over,
    });
    const rows = [
      row("good"),
      row("expired", { expiresAt: new Date(0) }),
      row("revoked", { revokedAt: new Date(0) }),
      row("signs", { kind: 2, secretHash: undefined, secretSealed: Buffer.alloc(8) }),
    ];
    const { createKnownKeys } = await import("../../src/services/identity/known-keys.ts");
    const { createKeyScheme } = await import("../../src/services/identity/key-scheme.ts");
    const { createSecretBox } = await import("../../src/services/identity/secret-box.ts");
    const { silent } = await import("../store/backends.ts");
    const find = async (ids: readonly string[]) => rows.filter(({ keyId }) => ids.includes(keyId));
    const repository = { find, used: async () => {} };
    const keys = createKnownKeys({ repository, box: createSecretBox([]), runtime: clock, log: silent });
    const scheme = createKeyScheme({ keys, runtime: clock });
    const messages = new Set<string>();
    const secrets = ["s".repeat(43), "x".repeat(43), "s".repeat(42), "s".repeat(128)];
    for (const id of ["good", "expired", "revoked", "signs", "unknown"]) {
      for (const secret of secrets) {
        compared.length = 0;
        const outcome = await Promise.resolve()
          .then(() => scheme.identify(bearer(`sbx_${id}_${secret}`)))
          .catch((error: Error) => error);
        expect(compared).toEqual([[32, 32]]);
        if (id === "good" && secret === secrets[0]) expect(outcome).toMatchObject({ id: "bob" });
        else messages.add((outcome as Error).message);
      }
    }
    expect(messages.size).toBe(1);
    expect(matchesSecret("a", Buffer.alloc(32))).toBe(false);
    vi.restoreAllMocks();
    (await import("node:module")).syncBuiltinESMExports();
  });
});
