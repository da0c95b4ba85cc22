import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SignalboxError } from "../../src/domain/errors.ts";
import { AddressRefused, createUrlGuard, type Lookup, withinOwnNetwork } from "../../src/outbound/url-guard.ts";

const strict = createUrlGuard({ allowPrivateUrls: false });
const open = createUrlGuard({ allowPrivateUrls: true });

interface Spelling {
  parts: number;
  radix: ((n: number) => string)[];
  wide: boolean;
  encoded: boolean;
  dot: string;
}

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
    "http://0177.0.0.1/",
    "http://0x7f.1/",
    "http://127.0.0.1./",
    "http://%31%32%37.0.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://ⓛocalhost/",
    "http://localhost%2e/",
    "http://100.100.100.200/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[0:0:0:0:0:ffff:169.254.169.254]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::808:808]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[2001:0:808:808::]/",
    "http://[::1:2:3]/",
    "http://[4000::1]/",
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

  test.each([0, 22, 25, 110, 465, 2375, 3306, 5432, 6379, 6667, 11211, 27017])(
    "refuses port %d, at which another protocol is spoken, unless private addresses are allowed",
    (port) => {
      const url = `http://example.com:${port}/`;
      expect(refusedBy(() => strict.checkUrl(url, "u")).message).toContain(`port ${port} is that of another protocol`);
      expect(refusedBy(() => strict.checkTarget(`example.com:${port}`, "u")).message).toContain("another protocol");
      expect(open.checkUrl(url, "u").port).toBe(String(port));
    },
  );

  test.each([80, 443, 3000, 8000, 8080, 8443, 9000, 50051, 65535])("lets port %d through", (port) => {
    expect(strict.checkTarget(`example.com:${port}`, "u").port).toBe(port);
    expect(strict.checkUrl(`http://example.com:${port}/`, "u").hostname).toBe("example.com");
  });

  test("refuses every private address, however it is spelled, and takes no public one for private", () => {
    const radix = fc.constantFrom(
      (n: number) => String(n),
      (n: number) => `0x${n.toString(16)}`,
      (n: number) => `0X${n.toString(16).toUpperCase()}`,
      (n: number) => `0${n.toString(8)}`,
      (n: number) => `000${n.toString(8)}`,
    );
    const spelling = fc.record({
      parts: fc.integer({ min: 1, max: 4 }),
      radix: fc.array(radix, { minLength: 4, maxLength: 4 }),
      wide: fc.boolean(),
      encoded: fc.boolean(),
      dot: fc.constantFrom("", "."),
    });
    /** The first bytes one by one, the rest in one number, each in another radix. */
    const spell = (bytes: readonly number[], how: Spelling) => {
      const heads = bytes.slice(0, how.parts - 1);
      const rest = bytes.slice(how.parts - 1).reduce((sum, byte) => sum * 256 + byte, 0);
      let host = [...heads, rest].map((part, i) => how.radix[i]!(part)).join(".") + how.dot;
      if (how.wide) host = host.replace(/[0-9]/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)));
      if (how.encoded) host = encodeURIComponent(host).replace(/^[0-9]/, (digit) => `%3${digit}`);
      return host;
    };
    const hex = (bytes: readonly number[]) => bytes.map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const inIpv6 = (bytes: readonly number[], prefix: string) => {
      const digits = hex(bytes);
      return `[${prefix}${digits.slice(0, 4)}:${digits.slice(4)}]`;
    };
    const byte = fc.integer({ min: 0, max: 255 });
    const privateBytes = fc
      .tuple(
        fc.constantFrom([10], [127], [0], [169, 254], [192, 168], [172, 20], [100, 100], [198, 18], [224], [255]),
        byte,
        byte,
        byte,
      )
      .map(([block, ...more]) => [...block, ...more].slice(0, 4));
    const publicBytes = fc.tuple(
      fc.constantFrom(1, 8, 9, 93, 151, 185, 203),
      fc.constantFrom(5, 8, 60, 99),
      byte,
      byte,
    );
    fc.assert(
      fc.property(privateBytes, spelling, (bytes, how) => {
        for (const host of [
          spell(bytes, how),
          inIpv6(bytes, "::ffff:"),
          inIpv6(bytes, "::"),
          inIpv6(bytes, "::ffff:0:"),
          inIpv6(bytes, "64:ff9b::"),
          `[2002:${hex(bytes).slice(0, 4)}:${hex(bytes).slice(4)}::1]`,
        ]) {
          expect(() => strict.checkUrl(`http://${host}/`, "u"), host).toThrow(SignalboxError);
          expect(() => strict.checkTarget(`${host}:443`, "u"), host).toThrow(SignalboxError);
        }
      }),
    );
    fc.assert(
      fc.property(publicBytes, spelling, (bytes, how) => {
        expect(strict.checkUrl(`http://${spell(bytes, how)}/`, "u").hostname).toBe(bytes.join("."));
        expect(strict.checkUrl(`http://${inIpv6(bytes, "::ffff:")}/`, "u").hostname).toContain(":ffff:");
      }),
    );
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

  test("a zone in an address does not hide that it is link-local; no address at all is a failure", async () => {
    const zoned = createUrlGuard({ allowPrivateUrls: false, ...names("fe80::1%eth0") });
    await expect(zoned.resolve("example.com")).rejects.toThrow(AddressRefused);
    const nothing = createUrlGuard({ allowPrivateUrls: false, ...names() });
    await expect(nothing.resolve("example.com")).rejects.toMatchObject({ code: "ENOTFOUND" });
  });

  test("in the clear, credentials stay where no other network is: neither public, nor led out by 6to4 or Teredo", async () => {
    for (const address of ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fd00::1", "fe80::1", "::ffff:10.0.0.1"]) {
      const guard = withinOwnNetwork(createUrlGuard({ allowPrivateUrls: true, ...names(address) }));
      expect(await guard.resolve("agent")).toHaveLength(1);
    }
    for (const address of [
      "8.8.8.8",
      "2606:4700::1",
      "2002:a00:1::1",
      "2001:0:a00:1::",
      "64:ff9b::a00:1",
      "224.0.0.1",
    ]) {
      const guard = withinOwnNetwork(createUrlGuard({ allowPrivateUrls: true, ...names("10.0.0.1", address) }));
      await expect(guard.resolve("agent"), address).rejects.toMatchObject({ code: "CREDENTIAL_NEEDS_TLS" });
    }
  });
});
