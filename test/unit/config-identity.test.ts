/** Settings of who may call that contradict each other are told, each with what to do. */
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { ConfigError } from "../../src/config/config-error.ts";
import { loadConfig } from "../../src/config/load.ts";

function mistakes(flags: Readonly<Record<string, string>>): string[] {
  try {
    loadConfig({ flags: { ...flags, config: "/dev/null" }, env: {}, cwd: tmpdir() });
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ where, message }) => `${where}: ${message}`);
    throw error;
  }
}

const TOKENS = { "jwt.issuers": "https://id.example", "jwt.audience": "signalbox" };

test.each<[string, Record<string, string>, RegExp]>([
  ["issuers without an audience", { "jwt.issuers": "https://id.example" }, /--jwt-issuers: .*jwt\.audience/],
  ["no algorithm", { ...TOKENS, "jwt.algorithms": "" }, /--jwt-algorithms: /],
  [
    "an issuer over http beyond this machine",
    { ...TOKENS, "jwt.issuers": "http://id.example", "allow-private-urls": "false" },
    /--jwt-issuers: .*https/,
  ],
  ["two issuers of the same ids", { ...TOKENS, "jwt.issuers": "http://id.example,https://id.example" }, /same ids/],
  ["an issuer twice", { ...TOKENS, "jwt.issuers": "https://id.example,https://id.example" }, /same ids/],
  ["trust domains that nobody can be of", { "tls.trust-domains": "mesh" }, /--tls-trust-domains: .*tls\.client-ca/],
  [
    "proxies that nobody comes through",
    { "auth.trusted-proxies": "loopback" },
    /--auth-trusted-proxies: .*tls\.trust-domains/,
  ],
])("%s", (_, flags, told) => {
  expect(mistakes(flags)).toEqual([expect.stringMatching(told)]);
});

test("what fits together is taken", () => {
  expect(mistakes(TOKENS)).toEqual([]);
  expect(mistakes({ ...TOKENS, "jwt.issuers": "http://127.0.0.1:9,https://id.example/realm" })).toEqual([]);
  const proxies = { "auth.trusted-proxies": "loopback,unix,10.0.0.0/8,::1", "http.socket": "signalbox.sock" };
  expect(mistakes({ "tls.trust-domains": "mesh", ...proxies })).toEqual([]);
});
