/** Floods of calls that are not authenticated, by the address that they come from. */
import { describe, expect, it } from "vitest";
import type { SignalboxError } from "../../src/domain/errors.ts";
import { invalidCredential, unauthenticated } from "../../src/domain/identity/errors.ts";
import { type Authenticator, anonymousPrincipal } from "../../src/services/identity/authenticator.ts";
import type { Credentials } from "../../src/services/identity/credentials.ts";
import { limitFailures } from "../../src/services/limits/peer-failures.ts";
import { askedBy } from "../../src/transport/card-caller.ts";

const MOST_FAILURES = 20;

const from = (address: string | undefined, token = "bad"): Credentials => ({
  header: (name) => (name === "authorization" ? token : null),
  method: "GET",
  target: "/",
  authority: "",
  peer: { address, isLocalSocket: address === undefined, certificate: undefined },
  contentDigest: () => undefined,
});

function lab(isAsync = false) {
  let [nowMs, verified, limited] = [1_000, 0, 0];
  const inner: Authenticator = {
    authenticate(credentials) {
      verified += 1;
      if (credentials.header("authorization") === "good") return anonymousPrincipal("caller");
      if (isAsync) return Promise.reject(invalidCredential("it is wrong."));
      throw invalidCredential("it is wrong.");
    },
  };
  const authenticator = limitFailures(inner, {
    most: MOST_FAILURES,
    runtime: { elapsedMs: () => nowMs },
    onLimited: () => {
      limited += 1;
    },
  });
  return {
    verified: () => verified,
    limited: () => limited,
    pass: (ms: number) => {
      nowMs += ms;
    },
    /** The reason for which a call is refused; undefined for one that is let in. */
    async call(address: string | undefined, token?: string): Promise<string | undefined> {
      try {
        await authenticator.authenticate(from(address, token));
        return undefined;
      } catch (error) {
        return (error as SignalboxError).reason;
      }
    },
  };
}

describe.each([false, true])("calls that fail (verified in a promise: %s)", (isAsync) => {
  it("are not looked at after twenty within a second, until it is over", async () => {
    const { call, verified, limited, pass } = lab(isAsync);
    const said: (string | undefined)[] = [];
    for (let i = 0; i < MOST_FAILURES + 10; i++) said.push(await call("192.0.2.1"));
    expect(said.slice(0, MOST_FAILURES)).toEqual(Array(MOST_FAILURES).fill("CREDENTIAL_INVALID"));
    expect(said.slice(MOST_FAILURES)).toEqual(Array(10).fill("RATE_LIMITED"));
    expect(verified()).toBe(MOST_FAILURES);
    expect(limited()).toBe(10);
    // Nobody can tell a good one from a bad one without looking.
    expect(await call("192.0.2.1", "good")).toBe("RATE_LIMITED");
    // Others are others.
    expect(await call("192.0.2.2", "good")).toBeUndefined();
    pass(1_000);
    expect(await call("192.0.2.1", "good")).toBeUndefined();
    expect(await call("192.0.2.1")).toBe("CREDENTIAL_INVALID");
  });
});

it("says the limit, and when to come again", () => {
  const inner: Authenticator = {
    authenticate() {
      throw invalidCredential("it is wrong.");
    },
  };
  let nowMs = 0;
  const guarded = limitFailures(inner, { runtime: { elapsedMs: () => nowMs }, most: MOST_FAILURES, onLimited() {} });
  for (let i = 0; i < MOST_FAILURES; i++) expect(() => guarded.authenticate(from("::1"))).toThrow(/not accepted/);
  nowMs = 400;
  expect(() => guarded.authenticate(from("::1"))).toThrow(
    expect.objectContaining({
      code: "RESOURCE_EXHAUSTED",
      metadata: { limit: "failed_authentications_per_second", max: String(MOST_FAILURES) },
      retryAfterMs: 600,
    }),
  );
});

it("counts a network of IPv6 as one, and an IPv4 address as what it is, however it is written", async () => {
  const { call } = lab();
  for (let i = 0; i < MOST_FAILURES; i++) await call(`2001:db8:0:1::${(i + 1).toString(16)}`);
  expect(await call("2001:0db8:0000:0001:ffff::1", "good")).toBe("RATE_LIMITED");
  expect(await call("2001:db8:0:2::1", "good")).toBeUndefined();
  for (let i = 0; i < MOST_FAILURES; i++) await call(i % 2 === 0 ? "198.51.100.7" : "::ffff:198.51.100.7");
  expect(await call("198.51.100.7", "good")).toBe("RATE_LIMITED");
  expect(await call("198.51.100.8", "good")).toBeUndefined();
});

it("counts nobody whose address is not known, and no call that is let in", async () => {
  const { call, verified } = lab();
  for (let i = 0; i < 100; i++) expect(await call(undefined)).toBe("CREDENTIAL_INVALID");
  for (let i = 0; i < 100; i++) expect(await call("192.0.2.9", "good")).toBeUndefined();
  expect(verified()).toBe(200);
});

it("forgets those that came first when too many addresses fail", async () => {
  const { call, verified } = lab();
  for (let i = 0; i < MOST_FAILURES; i++) await call("192.0.2.1");
  expect(await call("192.0.2.1")).toBe("RATE_LIMITED");
  for (let i = 0; i < 10_000; i++) await call(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
  const before = verified();
  expect(await call("192.0.2.1")).toBe("CREDENTIAL_INVALID");
  expect(verified()).toBe(before + 1);
});

it("cards that are read without a credential lock nobody out, and wrong credentials do there as anywhere", async () => {
  const inner: Authenticator = {
    authenticate(credentials) {
      const token = credentials.header("authorization");
      if (token === "good") return anonymousPrincipal("admin");
      throw token === "" ? unauthenticated() : invalidCredential("it is wrong.");
    },
  };
  const guarded = limitFailures(inner, { runtime: { elapsedMs: () => 1_000 }, most: MOST_FAILURES, onLimited() {} });
  for (let i = 0; i < 3 * MOST_FAILURES; i++) {
    expect(await askedBy(guarded, from("192.0.2.1", ""))).toMatchObject({ isPublic: true });
  }
  expect(await guarded.authenticate(from("192.0.2.1", "good"))).toMatchObject({ id: "anonymous" });
  for (let i = 0; i < MOST_FAILURES; i++) {
    await expect(askedBy(guarded, from("192.0.2.1"))).rejects.toMatchObject({ reason: "CREDENTIAL_INVALID" });
  }
  await expect(askedBy(guarded, from("192.0.2.1", ""))).rejects.toMatchObject({ reason: "RATE_LIMITED" });
});
