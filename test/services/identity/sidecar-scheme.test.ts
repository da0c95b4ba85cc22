/** X-Forwarded-Client-Cert: only trusted peers are believed, and only what they have added themselves. */
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { SignalboxError } from "../../../src/domain/errors.ts";
import type { Peer } from "../../../src/services/identity/credentials.ts";
import { createSidecarScheme } from "../../../src/services/identity/sidecar-scheme.ts";
import { createTrustedProxies } from "../../../src/services/identity/trusted-proxies.ts";
import { certificate, START } from "./certificates.ts";
import { request } from "./request.ts";

const CART = "spiffe://mesh/ns/shop/sa/cart";
const ADMIN = "spiffe://mesh/ns/ops/sa/admin";
const ENVOY = `By=spiffe://mesh/router;Hash=468ed33b;Subject="/C=US/CN=cart";URI=${CART}`;
const HOUR_MS = 3_600_000;
const refused = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };
const cart = { id: "spiffe/mesh/ns/shop/sa/cart", authentication: "sidecar", actors: [] };
const PROXY = { address: "10.1.2.3" };
let now = START;

function scheme(trusted: readonly string[] = ["10.0.0.0/8"], maxHours = Number.POSITIVE_INFINITY) {
  return createSidecarScheme({
    rules: { trustDomains: new Set(["mesh"]), maxCertificateMs: maxHours * HOUR_MS },
    proxies: createTrustedProxies(trusted),
    runtime: { now: () => new Date(now) },
  });
}
const forwarded = (header: string, peer: Partial<Peer> = PROXY) => request({ "x-forwarded-client-cert": header }, peer);

beforeEach(() => {
  now = START;
});

describe("who is believed", () => {
  test.each<[string, string, Partial<Peer>]>([
    ["an address", "192.0.2.7", { address: "192.0.2.7" }],
    ["a network", "10.0.0.0/8", { address: "10.255.0.1" }],
    ["a network, by a mapped address", "10.0.0.0/8", { address: "::ffff:10.255.0.1" }],
    ["a network of IPv6", "fd00:1::/32", { address: "fd00:1::5" }],
    ["an address of IPv6, by another spelling", "fd00::1", { address: "fd00:0:0::1" }],
    ["a link-local address with its zone", "fe80::/10", { address: "fe80::1%eth0" }],
    ["loopback", "loopback", { address: "127.8.9.1" }],
    ["loopback of IPv6", "loopback", { address: "::1" }],
    ["loopback, mapped", "loopback", { address: "::ffff:127.0.0.1" }],
    ["a Unix socket", "unix", { address: undefined, isLocalSocket: true }],
  ])("%s", (_, trusted, peer) => {
    expect(scheme(["198.51.100.1", trusted]).identify(forwarded(ENVOY, peer))).toEqual(cart);
  });

  test.each<[string, string, Partial<Peer>]>([
    ["another address", "192.0.2.7", { address: "192.0.2.8" }],
    ["beside a network", "10.0.0.0/8", { address: "11.0.0.1" }],
    ["beside a network, mapped", "10.0.0.0/8", { address: "::ffff:11.0.0.1" }],
    ["beside an address of IPv6", "fd00::1", { address: "fd00::2" }],
    ["no loopback", "loopback", { address: "192.0.2.7" }],
    ["a Unix socket, where loopback is trusted", "loopback", { address: undefined, isLocalSocket: true }],
    ["loopback, where sockets are trusted", "unix", { address: "127.0.0.1" }],
    ["an address that is unknown", "0.0.0.0/0", { address: undefined }],
    ["an address that is none", "0.0.0.0/0", { address: "localhost" }],
  ])("not %s: the header counts for nothing, well-formed or not", (_, trusted, peer) => {
    for (const header of [ENVOY, '"', ""]) {
      expect(scheme([trusted]).identify(forwarded(header, peer))).toBeUndefined();
    }
  });

  test("nobody, where nobody is named", () => {
    expect(scheme([]).identify(forwarded(ENVOY, { address: "127.0.0.1" }))).toBeUndefined();
  });
});

describe("what is believed", () => {
  test("the element of the proxy itself, which is the last", () => {
    expect(scheme().identify(forwarded(`By=x;URI=${ADMIN},${ENVOY}`))).toEqual(cart);
    expect(scheme().identify(forwarded(`URI=${ADMIN}, ${ENVOY}`))).toEqual(cart);
  });

  test("the same header again, without reading it again", () => {
    const sidecar = scheme();
    expect(sidecar.identify(forwarded(ENVOY))).toBe(sidecar.identify(forwarded(ENVOY)));
  });

  test("a certificate as nginx hands it on, with or without a key", async () => {
    const { pem } = await certificate({ uris: [CART] });
    const escaped = encodeURIComponent(pem);
    for (const header of [escaped, `Cert=${escaped}`, `Cert="${escaped}"`, `Hash=1;Cert="${escaped}";URI=${CART}`]) {
      expect(scheme().identify(forwarded(header))).toEqual(cart);
    }
  });

  test.each([[""], ['Cert=""'], ['Hash=1;Subject="/CN=cart"'], ["URI=https://cart.example"]])(
    "%j says that nobody calls whom it could name",
    (header) => {
      expect(scheme().identify(forwarded(header))).toBeUndefined();
    },
  );

  test("a certificate without a SPIFFE ID says the same", async () => {
    const { pem } = await certificate({ dns: ["cart.example"] });
    expect(scheme().identify(forwarded(`Cert="${encodeURIComponent(pem)}"`))).toBeUndefined();
  });
});

describe("what is refused", () => {
  test.each<[string, string]>([
    ["an ID of another trust domain", "URI=spiffe://evil/ns/shop/sa/cart"],
    ["an ID with a port", "URI=spiffe://mesh:443/a"],
    ["two IDs", `URI=${CART};URI=${ADMIN}`],
    ["an ID behind another URI", `URI=https://cart.example;URI=${CART}`],
    ["a pair without a key", `${ENVOY};${ADMIN}`],
    ["a quote without an end", `URI="${CART}`],
    ["a line feed", `URI=${CART}\n`.concat(";By=a")],
    ["a certificate that is none", "Cert=abc"],
    [
      "a certificate in a frame that has no content",
      `Cert=${encodeURIComponent("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}`,
    ],
    ["an empty last element", `${ENVOY},`],
  ])("%s", (_, header) => {
    expect(() => scheme().identify(forwarded(header))).toThrow(expect.objectContaining(refused));
  });

  test("two certificates in one, and a URI that is not that of its certificate", async () => {
    const mine = await certificate({ uris: [CART] });
    const admins = await certificate({ uris: [ADMIN] });
    const headers = [
      `Cert="${encodeURIComponent(mine.pem + admins.pem)}"`,
      `Cert="${encodeURIComponent(mine.pem)}";URI=${ADMIN}`,
      `Cert="${encodeURIComponent((await certificate()).pem)}";URI=${ADMIN}`,
      `Cert="${encodeURIComponent(mine.pem)}";Cert="${encodeURIComponent(admins.pem)}"`,
    ];
    for (const header of headers) {
      expect(() => scheme().identify(forwarded(header))).toThrow(expect.objectContaining(refused));
    }
  });

  test("a certificate that is too old, or was issued for too long", async () => {
    const { pem } = await certificate({ uris: [CART] });
    const credentials = forwarded(`Cert="${encodeURIComponent(pem)}"`);
    const sidecar = scheme();
    expect(sidecar.identify(credentials)).toEqual(cart);
    expect(() => scheme(["10.0.0.0/8"], 23).identify(credentials)).toThrow(/longer/);
    now += 24 * HOUR_MS;
    expect(() => sidecar.identify(credentials)).toThrow(/expired/);
  });
});

test("whatever a client writes, its proxy's word holds, or nothing does", () => {
  const pieces = [
    "URI=",
    "By=",
    "Subject=",
    '"',
    '\\"',
    "\\",
    ",",
    ";",
    " ",
    "\n",
    ADMIN,
    `URI=${ADMIN}`,
    "%22",
    "Cert=",
  ];
  const forged = fc.oneof(
    fc.string(),
    fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((parts) => parts.join("")),
  );
  const sidecar = scheme();
  fc.assert(
    fc.property(forged, (text) => {
      try {
        expect(sidecar.identify(forwarded(`${text},${ENVOY}`))).toEqual(cart);
      } catch (error) {
        if (!(error instanceof SignalboxError)) throw error;
        expect(error).toMatchObject(refused);
      }
    }),
    { numRuns: 5_000 },
  );
});
