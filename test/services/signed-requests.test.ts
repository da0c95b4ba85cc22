/** Signed requests as servers take them: each once, whichever server it comes to, within its time, and by keys that hold. */
import { createHmac } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, it } from "vitest";
import { KeyKind, RevokeKeyRequestSchema, RotateKeyRequestSchema } from "../../gen/signalbox/v1/workspace_pb.ts";
import { databaseUnavailable } from "../../src/domain/errors.ts";
import { type SignOptions, signRequest } from "../../src/sdk/signing.ts";
import { createSignatureScheme } from "../../src/services/identity/signature-scheme.ts";
import { describeEachBackend } from "../store/backends.ts";
import { contextOf, credentialsOf, type IdentityServer, identityServer, movedClock, newKeyOf } from "./identity-lab.ts";

const admin = contextOf("admin");
const REFUSED = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };
const WINDOW_S = 300;

describeEachBackend("a signed request", (context) => {
  async function lab() {
    const clock = movedClock();
    const options = { runtime: clock, windowSeconds: WINDOW_S };
    const [a, b] = [identityServer(context.db, options), identityServer(context.db, options)];
    const newKey = async () =>
      (await a.keys.create(admin, newKeyOf({ principalId: "sam", roles: ["caller"], kind: KeyKind.HMAC }))).token;
    const key = await newKey();
    const credentials = (over: Partial<SignOptions> = {}, change: Parameters<typeof credentialsOf>[1] = {}) => {
      const signing = {
        method: "POST",
        url: "http://127.0.0.1:8080/v1/tasks",
        body: "{}",
        key,
        time: clock.now(),
        ...over,
      };
      return credentialsOf({ ...signRequest(signing) }, { method: signing.method, content: signing.body, ...change });
    };
    const ask = async (server: IdentityServer, given = credentials()) => server.bySignature.identify(given);
    const stored = async () => {
      const [row] = await context.db.query({ name: "t-nonces", text: "select count(*) as n from signed_nonces" }, []);
      return Number(row!.n);
    };
    return { clock, a, b, key, newKey, credentials, ask, stored };
  }

  it("says who it is from, once", async () => {
    const { a, b, credentials, ask } = await lab();
    const given = credentials();
    const identity = await ask(a, given);
    expect(identity).toMatchObject({
      id: "sam",
      authentication: "hmac",
      granted: { workspaceId: "default", roles: ["caller"] },
    });
    await expect(ask(a, given)).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringContaining("nonce was used before"),
    });
    // Nor does another server take it.
    await expect(ask(b, given)).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringContaining("nonce was used before"),
    });
    expect(await ask(a)).toBe(identity);
  });

  it("counts once where it comes to both servers many times at once", async () => {
    const { a, b, credentials, ask, clock } = await lab();
    const requests = Array.from({ length: 20 }, () => credentials());
    const sent = requests.flatMap((given) => [a, b, a, b].map((server) => ({ given, server })));
    const outcomes = await Promise.allSettled(sent.map(({ server, given }) => ask(server, given)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(requests.length);
    clock.move(1);
  });

  it("is no request of another key by its nonce", async () => {
    const { a, credentials, ask, newKey } = await lab();
    const nonce = "the-same-nonce-16";
    await ask(a, credentials({ nonce }));
    expect(await ask(a, credentials({ nonce, key: await newKey() }))).toMatchObject({ id: "sam" });
    await expect(ask(a, credentials({ nonce }))).rejects.toMatchObject(REFUSED);
  });

  it("is taken within the window on either side, and neither later nor earlier", async () => {
    const { a, b, clock, credentials, ask } = await lab();
    const at = (seconds: number) => credentials({ time: new Date(clock.now().getTime() + seconds * 1_000) });
    expect(await ask(a, at(-WINDOW_S))).toMatchObject({ id: "sam" });
    expect(await ask(a, at(WINDOW_S))).toMatchObject({ id: "sam" });
    await expect(ask(a, at(-WINDOW_S - 1))).rejects.toMatchObject({
      ...REFUSED,
      message: expect.stringContaining("this server's clock says"),
    });
    await expect(ask(a, at(WINDOW_S + 1))).rejects.toMatchObject(REFUSED);
    // One from the future is still known when its time has come.
    const early = at(WINDOW_S);
    await ask(a, early);
    clock.move(2 * WINDOW_S * 1_000);
    await expect(ask(b, early)).rejects.toMatchObject({ message: expect.stringContaining("nonce was used before") });
  });

  it("ends when it says so", async () => {
    const { a, clock, key, ask } = await lab();
    const now = Math.floor(clock.now().getTime() / 1_000);
    const [, keyId, secret] = /^sbx_([a-z0-9]+)_(.+)$/.exec(key)!;
    const until = (expires: number) => {
      const params = `("@method" "@path");created=${now};expires=${expires};keyid="${keyId}";nonce="${"e".repeat(20)}${expires}"`;
      const base = `"@method": GET\n"@path": /v1/tasks\n"@signature-params": ${params}`;
      const signature = createHmac("sha256", secret!).update(base).digest("base64");
      return credentialsOf({ "signature-input": `x=${params}`, signature: `x=:${signature}:` }, { method: "GET" });
    };
    await expect(ask(a, until(now))).rejects.toMatchObject({ message: expect.stringContaining("has expired") });
    expect(await ask(a, until(now + 1))).toMatchObject({ id: "sam" });
  });

  it("is refused when anything in it was changed, and its nonce is not kept then", async () => {
    const { a, credentials, ask, stored } = await lab();
    const url = "http://127.0.0.1:8080/v1/tasks?wait=1";
    const before = await stored();
    const target = "/v1/tasks?wait=1";
    for (const change of [
      { target, content: "[]" },
      { target, content: "" },
      { target: "/v1/tasks?wait=2" },
      { target: "/v1/tasks" },
      { target: "/v1/task?wait=1" },
      { target, method: "PUT" },
    ]) {
      await expect(ask(a, credentials({ url }, change)), JSON.stringify(change)).rejects.toMatchObject(REFUSED);
    }
    await expect(ask(a, credentials({ url }, { target, content: null }))).rejects.toMatchObject({
      message: expect.stringContaining("stream"),
    });
    expect(await stored()).toBe(before);
    expect(await ask(a, credentials({ url }, { target }))).toMatchObject({ id: "sam" });
    expect(await stored()).toBe(before + 1);
  });

  it("is refused in the same words by an unknown key, a wrong one, one that is sent, one that expired and one that was revoked", async () => {
    const { a, clock, key, credentials, ask } = await lab();
    const sentKey = (await a.keys.create(admin, newKeyOf({ principalId: "sam", roles: ["caller"] }))).token;
    const revoked = (
      await a.keys.create(admin, newKeyOf({ principalId: "sam", roles: ["caller"], kind: KeyKind.HMAC }))
    ).token;
    await a.keys.revoke(admin, create(RevokeKeyRequestSchema, { keyId: revoked.slice(4, 20) }));
    const expired = (
      await a.keys.create(admin, newKeyOf({ principalId: "sam", roles: ["caller"], kind: KeyKind.HMAC }))
    ).token;
    await a.keys.rotate(
      admin,
      create(RotateKeyRequestSchema, { keyId: expired.slice(4, 20), overlap: { seconds: 1n, nanos: 0 } }),
    );
    clock.move(1_000);
    const wrong = `${key.slice(0, 21)}${"w".repeat(43)}`;
    const unknown = `sbx_${"u".repeat(16)}_${"w".repeat(43)}`;
    const messages = new Set<string>();
    for (const token of [wrong, unknown, sentKey, revoked, expired]) {
      const error = await ask(a, credentials({ key: token })).catch((thrown: Error) => thrown);
      expect(error).toMatchObject(REFUSED);
      messages.add((error as Error).message);
    }
    expect(messages.size).toBe(1);
  });

  it("signs on with the new key while the old one goes on", async () => {
    const { a, key, credentials, ask } = await lab();
    const fresh = await a.keys.rotate(admin, create(RotateKeyRequestSchema, { keyId: key.slice(4, 20) }));
    expect(fresh.key).toMatchObject({ kind: KeyKind.HMAC });
    expect(await ask(a, credentials({ key: fresh.token }))).toMatchObject({ id: "sam" });
    expect(await ask(a, credentials())).toMatchObject({ id: "sam" });
  });

  it("is never let in where its nonce cannot be kept", async () => {
    const { a, clock, credentials } = await lab();
    const broken = createSignatureScheme({
      keys: a.known,
      nonces: { take: () => Promise.reject(databaseUnavailable()) },
      runtime: clock,
      windowSeconds: WINDOW_S,
    });
    await expect(async () => broken.identify(credentials())).rejects.toMatchObject({ code: "UNAVAILABLE" });
  });

  it("is none without Signature-Input", async () => {
    const { a } = await lab();
    expect(a.bySignature.identify(credentialsOf({ authorization: "Bearer x" }))).toBeUndefined();
  });

  it("by a key that another server's secrets were kept with is refused, and no secret is told", async () => {
    const { a, credentials, key } = await lab();
    const other = identityServer(context.db, { runtime: a.runtime, secretsKey: Buffer.alloc(32, 1) });
    const error = await Promise.resolve(other.bySignature.identify(credentials())).catch((thrown: Error) => thrown);
    expect(error).toMatchObject(REFUSED);
    expect(String(error)).not.toContain(key.slice(-43));
  });

  it("is taken exactly once, in whatever order and wherever copies arrive", async () => {
    const { a, b, credentials, ask } = await lab();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ request: fc.nat(3), toB: fc.boolean() }), { minLength: 1, maxLength: 12 }),
        async (arrivals) => {
          const requests = Array.from({ length: 4 }, () => credentials());
          const outcomes = await Promise.allSettled(
            arrivals.map(({ request, toB }) => ask(toB ? b : a, requests[request])),
          );
          const taken = arrivals.filter((_, i) => outcomes[i]!.status === "fulfilled").map(({ request }) => request);
          expect(taken.toSorted()).toEqual([...new Set(arrivals.map(({ request }) => request))].toSorted());
        },
      ),
      { numRuns: 25 },
    );
  });
});
