/** The scanner of logs finds secrets: were it blind, every test that relies on it would pass. */
import pino from "pino";
import { expect, test } from "vitest";
import { alsoScanned, expectNoSecrets, SecretScanner, scanCommand, scannedLog } from "../setup/secret-scanner.ts";

const KEY = `sbx_abcd1234_${"k".repeat(40)}`;
const JWT = `eyJhbGciOiJFUzI1NiJ9.${"p".repeat(30)}.${"s".repeat(40)}`;

function foundIn(write: (scanner: SecretScanner) => void) {
  const scanner = new SecretScanner();
  write(scanner);
  return scanner.take();
}

test.each<[string, unknown]>([
  ["an API key", { key: KEY }],
  ["an API key", { err: new Error(`no such key ${KEY}`) }],
  ["a JSON Web Token", { token: JWT }],
  ["a bearer token", { headers: { authorization: `Bearer ${"t".repeat(20)}` } }],
  ["a private key", { pem: "-----BEGIN EC PRIVATE KEY-----\nMHc" }],
  ["a client secret", { body: `grant_type=x&client_secret=${"c".repeat(12)}` }],
  ["a client secret", { clientSecret: "hunter2hunter2" }],
  ["a secret as the database keeps it", { row: { sealed: Buffer.from("x") } }],
  ["the hash of a key", { secret_hash: "00" }],
])("finds %s in a log", (what, facts) => {
  const found = foundIn((scanner) => scannedLog(scanner).debug(facts as object, "something"));
  expect(found.map((each) => each.what)).toContain(what);
  expect(JSON.stringify(found)).not.toMatch(/k{40}|s{40}|hunter2|c{12}/);
});

test.each([
  { msg: "serving" },
  { authorization: "[Redacted]", client_secret: "[Redacted]", clientSecret: "***" },
  { id: "sbx_abcd1234" },
  { about: "The security scheme Bearer takes a key" },
  { protected: "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpPU0UifQ" },
])("finds nothing in %j", (facts) => {
  expect(foundIn((scanner) => scannedLog(scanner).info(facts))).toEqual([]);
});

test("finds what was handed out, whatever it looks like, in logs that a test reads itself too", () => {
  const lines: string[] = [];
  const found = foundIn((scanner) => {
    const log = alsoScanned(pino({}, { write: (line: string) => lines.push(line) }), scanner);
    log.info("before: correct horse battery");
    scanner.secretIs("correct horse battery");
    log.child({ a: 1 }).info("after: correct horse battery");
  });
  expect(found).toMatchObject([{ what: "a secret that was handed out", line: expect.stringContaining("[SECRET]") }]);
  expect(lines).toHaveLength(2);
});

test("what a command shows once is a secret from then on", () => {
  const found = foundIn((scanner) => {
    scanCommand(["keys", "create"], { out: `Key ${KEY}\n`, err: "" }, scanner);
    expect(scanner.take()).toEqual([]);
    scanCommand(["agents", "list"], { out: `${KEY}\n`, err: "" }, scanner);
    scanCommand(["keys", "list"], { out: "", err: `Error: ${KEY}\n` }, scanner);
  });
  expect(new Set(found.map(({ where }) => where))).toEqual(
    new Set(['what "signalbox agents" shows', 'what "signalbox keys" says of errors']),
  );
});

test("fails a file in which one was found, and says where without saying it again", () => {
  const scanner = new SecretScanner();
  expect(() => expectNoSecrets(scanner)).not.toThrow();
  scanner.scan("the log of a server", `{"key":"${KEY}"}`);
  expect(() => expectNoSecrets(scanner)).toThrow(/an API key, in the log of a server: \{"key":"\[SECRET\]"\}/);
  expect(() => expectNoSecrets(scanner)).not.toThrow();
});
