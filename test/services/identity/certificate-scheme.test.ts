/** Certificates of clients: whose SPIFFE ID counts, and what is refused. */
import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { createCertificateScheme } from "../../../src/services/identity/certificate-scheme.ts";
import { createTrustedProxies } from "../../../src/services/identity/trusted-proxies.ts";
import { readCertificate, workloadId } from "../../../src/services/identity/workload-certificate.ts";
import { certificate, type Made, START } from "./certificates.ts";
import { request } from "./request.ts";

const CART = "spiffe://mesh.example/ns/shop/sa/cart";
const HOUR_MS = 3_600_000;
const refused = { code: "UNAUTHENTICATED", reason: "CREDENTIAL_INVALID" };
let now = START;

function scheme(maxHours = Number.POSITIVE_INFINITY, proxies: readonly string[] = []) {
  return createCertificateScheme({
    rules: { trustDomains: new Set(["mesh.example", "other.example"]), maxCertificateMs: maxHours * HOUR_MS },
    proxies: createTrustedProxies(proxies),
    runtime: { now: () => new Date(now) },
  });
}
const shown = async (made: Made, headers = {}, peer = {}) =>
  request(headers, { ...peer, certificate: (await certificate(made)).der });

beforeEach(() => {
  now = START;
});

describe("a certificate", () => {
  test("says who calls, by its SPIFFE ID", async () => {
    const credentials = await shown({ uris: [CART], dns: ["cart.shop", "a,URI:spiffe://mesh.example/b"] });
    const identity = scheme().identify(credentials);
    expect(identity).toEqual({ id: "spiffe/mesh.example/ns/shop/sa/cart", authentication: "mtls", actors: [] });
  });

  test("is read once: the same identity comes back, over other connections too", async () => {
    const schemeNow = scheme();
    const { der } = await certificate({ uris: [CART] });
    const first = schemeNow.identify(request({}, { certificate: der }));
    expect(schemeNow.identify(request({}, { certificate: der }))).toBe(first);
    expect(schemeNow.identify(request({}, { certificate: Uint8Array.from(der) }))).toBe(first);
  });

  test.each<[string, Made]>([
    ["no names", {}],
    ["names of hosts", { dns: ["cart.example"] }],
    ["a URI that is no SPIFFE ID", { uris: ["https://cart.example/"] }],
    ["two of them", { uris: ["https://cart.example/", "urn:cart"] }],
  ])("with %s says nothing", async (_, made) => {
    expect(scheme().identify(await shown(made))).toBeUndefined();
  });

  test.each<[string, Made]>([
    ["an ID of another trust domain", { uris: ["spiffe://evil.example/ns/shop/sa/cart"] }],
    ["an ID of a trust domain that begins like ours", { uris: ["spiffe://mesh.example.evil/a"] }],
    ["a port in its ID", { uris: ["spiffe://mesh.example:443/a"] }],
    ["a user in its ID", { uris: ["spiffe://a@mesh.example/a"] }],
    ["a query in its ID", { uris: ["spiffe://mesh.example/a?b"] }],
    ["the ID of the trust domain itself", { uris: ["spiffe://mesh.example"] }],
    ["an ID that climbs", { uris: ["spiffe://mesh.example/a/../b"] }],
    ["the scheme in another case", { uris: ["Spiffe://mesh.example/a"] }],
    ["two IDs", { uris: [CART, "spiffe://mesh.example/b"] }],
    ["an ID and another URI", { uris: ["https://cart.example/", CART] }],
    ["a comma in its ID", { uris: [`${CART}, URI:spiffe://mesh.example/b`] }],
    ["a quote in its ID", { uris: [`spiffe://mesh.example/a", URI:"${CART}`] }],
    ["the power to sign others", { uris: [CART], isAuthority: true }],
    ["a time that has passed", { uris: [CART], from: START - 25 * HOUR_MS }],
    ["a time that has not come", { uris: [CART], from: START + HOUR_MS }],
  ])("with %s is refused", async (_, made) => {
    const credentials = await shown(made);
    expect(() => scheme().identify(credentials)).toThrow(expect.objectContaining(refused));
  });

  test("may have been issued for so long, and no longer", async () => {
    expect(scheme(24).identify(await shown({ uris: [CART] }))).toBeTruthy();
    const long = await shown({ uris: [CART], hours: 25 });
    expect(() => scheme(24).identify(long)).toThrow(expect.objectContaining(refused));
    expect(scheme().identify(long)).toBeTruthy();
  });

  test("that expires while its connection lives counts no longer", async () => {
    const schemeNow = scheme();
    const credentials = await shown({ uris: [CART] });
    expect(schemeNow.identify(credentials)).toBeTruthy();
    now += 23 * HOUR_MS + 1_000;
    expect(() => schemeNow.identify(credentials)).toThrow(/expired/);
  });

  test("of a trusted proxy that speaks for others does not say who calls", async () => {
    const gateway = { uris: ["spiffe://mesh.example/gateway"] };
    const header = { "x-forwarded-client-cert": `URI=${CART}` };
    const trusted = scheme(1_000, ["10.0.0.0/8"]);
    expect(trusted.identify(await shown(gateway, header, { address: "10.1.2.3" }))).toBeUndefined();
    expect(trusted.identify(await shown(gateway, {}, { address: "10.1.2.3" }))).toBeTruthy();
    // From others the header counts for nothing.
    const stranger = trusted.identify(await shown(gateway, header, { address: "192.0.2.1" }));
    expect(stranger).toMatchObject({ id: "spiffe/mesh.example/gateway" });
  });

  test("that is none is refused; where there is none, nothing is said", () => {
    expect(scheme().identify(request())).toBeUndefined();
    const credentials = request({}, { certificate: new Uint8Array([1, 2, 3]) });
    expect(() => scheme().identify(credentials)).toThrow(expect.objectContaining(refused));
  });
});

test("the URIs of a certificate are those that its authority has signed, whatever stands in them", async () => {
  const ascii = fc.string({
    unit: fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code)),
    maxLength: 20,
  });
  const names = fc.array(
    fc.oneof(
      ascii.map((text) => `spiffe://mesh.example/${text}`),
      ascii.map((text) => `spiffe://mesh.example/a", URI:${text}`),
      ascii.map((text) => `x, URI:spiffe://mesh.example/${text}`),
    ),
    { minLength: 1, maxLength: 3 },
  );
  await fc.assert(
    fc.asyncProperty(names, ascii, async (uris, host) => {
      const read = readCertificate((await certificate({ uris, dns: [`a${host}`] })).der);
      expect(read?.uris).toEqual(uris);
      if (uris.length > 1) {
        const rules = { trustDomains: new Set(["mesh.example"]), maxCertificateMs: 1 };
        if (uris.some((uri) => uri.startsWith("spiffe:"))) expect(() => workloadId(uris, rules)).toThrow();
      }
    }),
    { numRuns: 100 },
  );
});
