/** X-Forwarded-Client-Cert: the last element is the proxy's own, and nothing that a client writes before it can change it. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SignalboxError } from "../../../src/domain/errors.ts";
import { lastForwarded } from "../../../src/domain/identity/forwarded-certificate.ts";

const CART = "spiffe://mesh/ns/shop/sa/cart";
const ADMIN = "spiffe://mesh/ns/ops/sa/admin";
/** As Envoy writes it. */
const ENVOY = `By=spiffe://mesh/router;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;Subject="/C=US/O=\\"Shop\\", Inc;x/CN=cart";URI=${CART}`;

describe("what is read", () => {
  test("of Envoy's elements the last", () => {
    expect(lastForwarded(ENVOY)).toEqual({ uris: [CART], pem: undefined });
    expect(lastForwarded(`By=a;URI=${ADMIN},${ENVOY}`)?.uris).toEqual([CART]);
    expect(lastForwarded(`URI=${ADMIN} , ${ENVOY}`)?.uris).toEqual([CART]);
  });

  test("keys in any case, values of several URIs, quoted URIs, keys that nobody knows", () => {
    expect(lastForwarded(`uri=a;Uri="b,\\"c\\"";URI=d=e;DNS=f;Later=g`)?.uris).toEqual(["a", 'b,"c"', "d=e"]);
  });

  test("a certificate, percent-encoded, with or without a key", () => {
    const pem = "-----BEGIN CERTIFICATE-----\nMIIB+A/b=\n-----END CERTIFICATE-----\n";
    const escaped = encodeURIComponent(pem);
    expect(lastForwarded(`Hash=1;Cert="${escaped}"`)).toEqual({ uris: [], pem });
    expect(lastForwarded(`Cert=${escaped}`)).toEqual({ uris: [], pem });
    expect(lastForwarded(escaped)).toEqual({ uris: [], pem });
  });

  test("nothing, where there is nothing", () => {
    expect(lastForwarded("  ")).toBeUndefined();
    expect(lastForwarded('Cert="";URI=')).toEqual({ uris: [], pem: undefined });
  });
});

test.each([
  ["a value without a key", CART],
  ["an empty element", `${ENVOY},`],
  ["an empty element before it", `,${ENVOY}`],
  ["an empty pair", `By=a;;URI=${CART}`],
  ["a quote without an end", `By=a;URI="${CART}`],
  ["a backslash at the end", 'URI="a\\'],
  ["a quote within a value", `URI=${CART}"`],
  ["something after a quoted value", `Subject="a"b;URI=${CART}`],
  ["a line feed", `By=a\n;URI=${CART}`],
  ["a line feed in quotes", `Subject="a\nb";URI=${CART}`],
  ["an escaped line feed in quotes", `Subject="a\\\nb";URI=${CART}`],
  ["two certificates", "Cert=a;Cert=b"],
  ["a certificate that is not percent-encoded", "Cert=%E0%A4%A"],
  ["a certificate alone, and an element", `-----BEGIN%20CERTIFICATE-----,${ENVOY}`],
  ["too much", `By=${"a".repeat(33_000)}`],
  ["too many elements", Array.from({ length: 65 }, () => "By=a").join(",")],
])("%s is malformed", (_, header) => {
  expect(() => lastForwarded(header)).toThrow(
    expect.objectContaining({ code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" }),
  );
});

const pieces = fc.constantFrom(
  ...[
    "By=",
    "URI=",
    "Cert=",
    "Subject=",
    '"',
    '\\"',
    "\\",
    ",",
    ";",
    "=",
    " ",
    "\n",
    "%",
    "%41",
    ADMIN,
    "x",
    `URI=${ADMIN}`,
  ],
);
const anything = fc.oneof(
  fc.string({ unit: "binary", maxLength: 100 }),
  fc.array(pieces, { maxLength: 14 }).map((parts) => parts.join("")),
);

test("whatever the header is, it is read or refused", () => {
  fc.assert(
    fc.property(anything, (header) => {
      try {
        lastForwarded(header);
      } catch (error) {
        expect(error).toBeInstanceOf(SignalboxError);
        expect(error).toMatchObject({ code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" });
      }
    }),
    { numRuns: 5_000 },
  );
});

test("whatever a client writes before the element of its proxy, it is read as that one, or refused", () => {
  fc.assert(
    fc.property(
      anything,
      fc.constantFrom(ENVOY, `Hash=1;URI=${CART}`, `By=a;Subject="";URI=${CART}`),
      (forged, own) => {
        let uris: readonly string[] | undefined;
        try {
          uris = lastForwarded(`${forged},${own}`)?.uris;
        } catch {
          return;
        }
        expect(uris).toEqual([CART]);
      },
    ),
    { numRuns: 20_000 },
  );
});
