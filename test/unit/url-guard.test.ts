import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SignalboxError } from "../../src/domain/errors.ts";
import { AddressRefused, createUrlGuard, type Lookup } from "../../src/outbound/url-guard.ts";

const strict = createUrlGuard({ allowPrivateUrls: false });
const open = createUrlGuard({ allowPrivateUrls: true });

function refusedBy(act: () => unknown): SignalboxError {
  try {
    act();
  } catch (error) {
    if (error instanceof SignalboxError) return error;
  }
  throw new Error("nothing was refused");
}

/** A resolver that answers with these addresses, and counts how often it is asked. */
function names(...addresses: string[]): { lookup: Lookup; asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    lookup(host, _options, callback) {
      asked.push(host);
      callback(
        null,
        addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
      );
    },
  };
}

describe("checkUrl", () => {
  test.each([
    "http://127.0.0.1/",
    "http://127.1:8080/",
    "http://2130706433/",
    "http://0x7f.0.0.1/",
    "http://0/",
    "http://10.1.2.3/",
    "http://172.31.255.255/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::ffff:a00:1]/",
    "http://[::ffff:0:127.0.0.1]/",
    "http://[::ffff:0:a00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fd00::1]/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
    "http://[2002:7f00:1::]/",
    "https://localhost/",
    "https://api.localhost./",
  ])("refuses %s unless private addresses are allowed", (url) => {
    const error = refusedBy(() => strict.checkUrl(url, "card_url"));
    expect(error.code).toBe("INVALID_ARGUMENT");
    expect(error.violations[0]?.field).toBe("card_url");
    expect(error.message).toContain("allow-private-urls");
    expect(open.checkUrl(url, "card_url").href).toContain("http");
  });

  test.each([
    "https://example.com/a",
    "http://8.8.8.8/",
    "http://172.32.0.1/",
    "http://[2606:4700::1111]/",
    "http://[64:ff9b::808:808]/",
    "http://[::ffff:0:808:808]/",
  ])("lets %s through", (url) => {
    expect(strict.checkUrl(url, "u").href).toBe(url);
  });

  test.each([
    "",
    "example.com",
    "ftp://example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://",
    "http://a b/",
  ])("refuses %j even where private addresses are allowed", (url) => {
    expect(refusedBy(() => open.checkUrl(url, "u")).message).toContain("http or https URL");
  });

  test.each(["http://example.com/\0", "\0http://example.com/", "http://exa\tmple.com/", "http://example.com/\x7f"])(
    "refuses the control character in %j",
    (url) => {
      expect(refusedBy(() => open.checkUrl(url, "u")).message).toContain("control characters");
      expect(refusedBy(() => open.checkTarget(url, "u")).message).toContain("control characters");
    },
  );

  test("refuses what is too long to be an address", () => {
    const url = `http://example.com/${"x".repeat(2048)}`;
    expect(refusedBy(() => open.checkUrl(url, "u")).message).toContain("2048");
    expect(refusedBy(() => open.checkTarget(url, "u")).message).toContain("2048");
  });

  test("refuses credentials", () => {
    expect(refusedBy(() => open.checkUrl("http://me:secret@example.com/", "u")).message).not.toContain("secret");
  });

  test("every address of a private block is refused, in every spelling", () => {
    const byte = fc.integer({ min: 0, max: 255 });
    fc.assert(
      fc.property(fc.constantFrom("10", "127", "169.254", "192.168"), byte, byte, byte, (block, a, b, c) => {
        const rest = [a, b, c].slice(0, 4 - block.split(".").length);
        const address = `${block}.${rest.join(".")}`;
        const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
        for (const host of [address, String(number), `0x${number.toString(16)}`, `[::ffff:${address}]`]) {
          expect(() => strict.checkUrl(`http://${host}/`, "u")).toThrow(SignalboxError);
        }
      }),
    );
  });
});

describe("checkTarget", () => {
  test.each([
    ["agent.example.com:443", { host: "agent.example.com", port: 443, tls: true }],
    ["https://agent.example.com", { host: "agent.example.com", port: 443, tls: true }],
    ["http://agent.example.com:50051/", { host: "agent.example.com", port: 50051, tls: false }],
    ["8.8.8.8:80", { host: "8.8.8.8", port: 80, tls: true }],
  ])("reads %s", (target, read) => {
    expect(strict.checkTarget(target, "u")).toEqual(read);
    expect(open.checkTarget(target, "u")).toEqual(read);
  });

  test.each(["127.0.0.1:1", "localhost:1", "[::1]:1", "agent:1", "agent.team.svc:1", "10.0.0.7:1"])(
    "%s is plaintext without a scheme where private addresses are allowed",
    (target) => {
      expect(open.checkTarget(target, "u").tls).toBe(false);
      expect(open.checkTarget(`https://${target}`, "u").tls).toBe(true);
    },
  );

  test.each(["", "agent", "agent:x", "grpc://agent:1", "agent:1/path", "me@agent:1", "agent:99999", "a b:1"])(
    "refuses %j",
    (target) => {
      expect(refusedBy(() => open.checkTarget(target, "u")).message).toContain("host:port");
    },
  );

  test("refuses private hosts", () => {
    expect(refusedBy(() => strict.checkTarget("127.1:50051", "u")).message).toContain("allow-private-urls");
  });
});

describe("resolve", () => {
  test("resolves a name once and gives all of its addresses", async () => {
    const { lookup, asked } = names("8.8.8.8", "2606:4700::1111");
    const guard = createUrlGuard({ allowPrivateUrls: false, lookup });
    expect((await guard.resolve("example.com")).map((found) => found.address)).toEqual(["8.8.8.8", "2606:4700::1111"]);
    expect(asked).toEqual(["example.com"]);
  });

  test("one private address among public ones is enough to refuse", async () => {
    const guard = createUrlGuard({ allowPrivateUrls: false, ...names("8.8.8.8", "::ffff:127.0.0.1") });
    await expect(guard.resolve("example.com")).rejects.toThrow(AddressRefused);
  });

  test("asks nobody about an address", async () => {
    const { lookup, asked } = names("8.8.8.8");
    const guard = createUrlGuard({ allowPrivateUrls: true, lookup });
    expect(await guard.resolve("127.0.0.1")).toEqual([{ address: "127.0.0.1", family: 4 }]);
    expect(asked).toEqual([]);
    await expect(createUrlGuard({ allowPrivateUrls: false, lookup }).resolve("127.0.0.1")).rejects.toThrow(
      AddressRefused,
    );
  });
});
