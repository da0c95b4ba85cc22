/** The private keys of the audit log, as they are given, found and made. */
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadConfig } from "../../../src/config/load.ts";
import { publicBytes, readPrivateKey } from "../../../src/domain/audit/checkpoint.ts";
import { readAuditKeys } from "../../../src/engine/audit-key.ts";
import { keyOf } from "../../fixtures/audit-log.ts";

let dir: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "signalbox-audit-key-"));
});

afterEach(() => rmSync(dir, { recursive: true }));

function read(flags: Record<string, string> = {}, mayMake = false) {
  const config = loadConfig({ env: {}, cwd: dir, flags: { "data.dir": join(dir, "data"), ...flags } });
  return readAuditKeys(config, mayMake, pino({ level: "silent" }));
}

const key = keyOf("first");
const pem = (of = key) => of.export({ format: "pem", type: "pkcs8" }).toString();
const seed = key.export({ format: "der", type: "pkcs8" }).subarray(-32);
const isKey = (found: KeyObject | undefined, wanted = key) =>
  found !== undefined && publicBytes(found).equals(publicBytes(wanted));

describe("a key that is named", () => {
  test.each([
    ["as PEM", pem()],
    ["as a seed in base64", seed.toString("base64")],
    ["as a seed in hexadecimal", seed.toString("hex")],
  ])("is given %s, or in a file", (_, text) => {
    expect(isKey(read({ "audit.key": text }).key)).toBe(true);
    const path = join(dir, "key");
    writeFileSync(path, `${text}\n`);
    expect(read({ "audit.key": path })).toMatchObject({ isNamed: true, previous: undefined });
    expect(isKey(read({ "audit.key": path }).key)).toBe(true);
  });

  test("is never made of the name of its file", () => {
    // Lenient readers of base64 take it for 32 bytes.
    const name = "/run/secrets/signalbox-audit-signing-key-v1";
    expect(Buffer.from(name, "base64")).toHaveLength(32);
    expect(readPrivateKey(name)).toBeUndefined();
    expect(() => read({ "audit.key": name })).toThrow("audit.key is no private Ed25519 key");
  });

  test("is that of the file where its name could be a seed", () => {
    const path = seed.toString("hex");
    writeFileSync(join(dir, path), pem(keyOf("second")));
    const before = process.cwd();
    process.chdir(dir);
    try {
      expect(isKey(read({ "audit.key": path }).key, keyOf("second"))).toBe(true);
    } finally {
      process.chdir(before);
    }
  });

  test("is refused where it is none", () => {
    const rsa = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
    const path = join(dir, "key");
    writeFileSync(path, "rubbish");
    for (const given of [pem(rsa), pem().slice(0, 60), seed.toString("base64").slice(4), dir, path]) {
      expect(() => read({ "audit.key": given }), given).toThrow(
        expect.objectContaining({ reason: "AUDIT_KEY_UNREADABLE" }),
      );
    }
    expect(() => read({ "audit.key": pem().slice(0, 60) })).toThrow(/^(?!.*BEGIN)/);
  });

  test("has one before it, which is refused alone", () => {
    const both = read({ "audit.key": pem(), "audit.previous-key": pem(keyOf("second")) });
    expect(isKey(both.previous, keyOf("second"))).toBe(true);
    expect(() => read({ "audit.previous-key": pem() })).toThrow(
      expect.objectContaining({ reason: "AUDIT_KEY_MISSING", message: expect.stringContaining("audit.key") }),
    );
  });
});

describe("a key in the data folder", () => {
  const file = (name: string) => join(dir, "data", name);

  test("is made where there may be a first, for this user alone, and found again", () => {
    expect(read()).toEqual({ key: undefined, previous: undefined, isNamed: false });
    const made = read({}, true).key!;
    expect(isKey(readPrivateKey(readFileSync(file("audit-key.pem"), "utf8")), made)).toBe(true);
    expect(statSync(file("audit-key.pem")).mode & 0o777).toBe(0o600);
    expect(isKey(read({}, true).key, made)).toBe(true);
    writeFileSync(file("audit-key.previous.pem"), pem());
    expect(isKey(read().previous)).toBe(true);
  });

  test("is refused where it cannot be read, rather than made anew", () => {
    mkdirSync(file("audit-key.pem"), { recursive: true });
    expect(() => read({}, true)).toThrow(expect.objectContaining({ reason: "AUDIT_KEY_UNREADABLE" }));
  });

  test("is not made where nothing can be kept", () => {
    writeFileSync(join(dir, "data"), "no folder");
    expect(read({}, true).key).toBeUndefined();
  });
});
