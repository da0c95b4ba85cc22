/**
 * The one guard for every address that somebody gave us: agents' cards, agents, webhooks. Whoever may register a URL may
 * try to reach the network behind the router with it, so private addresses are refused unless the operator allows them
 * (A2A specification, section 13.2).
 *
 * Two lines of defence. `checkUrl` and `checkTarget` refuse at once what can be seen in the text. `resolve` is what every
 * connection goes through: a name is resolved once, each of its addresses is checked, and the connection is made to
 * these addresses and no others, so that a name that changes between check and connection (DNS rebinding) gains nothing.
 */
import { type LookupAddress, lookup } from "node:dns";
import { BlockList, isIP, isIPv6 } from "node:net";
import { clip, invalidArgument, type SignalboxError } from "../domain/errors.ts";
import { MAX_URI_LENGTH } from "../domain/message-rules.ts";

/** Special-purpose IPv4 blocks of RFC 6890 and its updates: none of them is the public Internet. */
const PRIVATE_IPV4 = [
  "0.0.0.0/8", // this network
  "10.0.0.0/8", // private
  "100.64.0.0/10", // carrier-grade NAT
  "127.0.0.0/8", // loopback
  "169.254.0.0/16", // link-local, cloud metadata
  "172.16.0.0/12", // private
  "192.0.0.0/24", // IETF protocols
  "192.0.2.0/24", // documentation
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16", // private
  "198.18.0.0/15", // benchmarks
  "198.51.100.0/24", // documentation
  "203.0.113.0/24", // documentation
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, broadcast
];

/** The same for IPv6. 2001::/23 holds Teredo, 2002::/16 is 6to4: both lead to an IPv4 address of the writer's choice. */
const PRIVATE_IPV6 = [
  "::/96", // unspecified, loopback, IPv4-compatible
  "64:ff9b:1::/48", // local NAT64
  "100::/64", // discard
  "2001::/23",
  "2001:db8::/32", // documentation
  "2002::/16",
  "3fff::/20", // documentation
  "5f00::/16", // segment routing
  "fc00::/7", // unique local
  "fe80::/10", // link-local
  "fec0::/10", // site-local
  "ff00::/8", // multicast
];

/** Prefixes under which an IPv4 address may hide in an IPv6 one: mapped, translated (SIIT), and NAT64. */
const IPV4_WITHIN_IPV6 = ["::ffff:", "::ffff:0:", "64:ff9b::"];

const privateAddresses = new BlockList();
for (const block of PRIVATE_IPV4) {
  const [address, bits] = block.split("/") as [string, string];
  privateAddresses.addSubnet(address, Number(bits), "ipv4");
  for (const prefix of IPV4_WITHIN_IPV6) privateAddresses.addSubnet(prefix + address, 96 + Number(bits), "ipv6");
}
for (const block of PRIVATE_IPV6) {
  const [address, bits] = block.split("/") as [string, string];
  privateAddresses.addSubnet(address, Number(bits), "ipv6");
}

/** Whether an IP address is none of the public Internet. */
const isPrivateAddress = (address: string): boolean =>
  privateAddresses.check(address, isIPv6(address) ? "ipv6" : "ipv4");

/** Resolves a name to all of its addresses, as dns.lookup does. */
export type Lookup = (
  host: string,
  options: { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/** Where a gRPC agent listens. */
export interface GrpcTarget {
  host: string;
  port: number;
  tls: boolean;
}

export interface UrlGuard {
  /**
   * Reads an http or https URL. Throws INVALID_ARGUMENT, naming `field`, for anything else and for an address that is
   * not allowed. A name is not resolved here; `resolve` does that when the connection is made.
   */
  checkUrl(url: string, field: string): URL;
  /**
   * Reads the url of a gRPC interface: `host:port`, or with `http://` (plaintext) or `https://` (TLS) before it. Without
   * a scheme it is TLS, except, where private addresses are allowed, for hosts that no public authority gives a
   * certificate: private addresses, names without a dot, and names under `localhost`, `local`, `internal` and `svc`.
   * Throws as checkUrl does.
   */
  checkTarget(target: string, field: string): GrpcTarget;
  /** The addresses to connect to. Throws AddressRefused when one of them is not allowed, or the resolver's error. */
  resolve(host: string): Promise<LookupAddress[]>;
}

/** A name or an address leads where the operator allows no connection. */
export class AddressRefused extends Error {
  readonly code = "ADDRESS_REFUSED";

  constructor(host: string, address: string) {
    const what = host === address ? address : `${clip(host)} (${address})`;
    super(`${what} is a private or local address. ${REMEDY}`);
    this.name = "AddressRefused";
  }
}

const REMEDY = "Set allow-private-urls to allow such addresses.";

export function createUrlGuard(options: { allowPrivateUrls: boolean; lookup?: Lookup }): UrlGuard {
  const { allowPrivateUrls } = options;
  const lookUp = options.lookup ?? (lookup as Lookup);
  const isRefused = (address: string) => !allowPrivateUrls && isPrivateAddress(address);

  function checkHost(host: string, given: string, field: string): void {
    const local = isIP(host) !== 0 ? isRefused(host) : !allowPrivateUrls && /(^|\.)localhost\.?$/.test(host);
    if (local) throw refusal(field, `"${clip(given)}" leads to a private or local address. ${REMEDY}`);
  }

  return {
    checkUrl(url, field) {
      checkText(url, field);
      const parsed = URL.parse(url);
      if (!parsed || !/^https?:$/.test(parsed.protocol)) {
        throw refusal(field, `"${clip(url)}" is no http or https URL.`);
      }
      if (parsed.username || parsed.password) {
        throw refusal(field, "a user name or password has no place in a URL. Leave it out.");
      }
      checkHost(bareHost(parsed), url, field);
      return parsed;
    },

    checkTarget(target, field) {
      checkText(target, field);
      const [, scheme, rest] = /^(?:(https?):\/\/)?([^/?#@\s]+)\/?$/i.exec(target) ?? [];
      // The URL parser brings every spelling of an IPv4 address to the usual one.
      const parsed = rest === undefined ? null : URL.parse(`${scheme ?? "http"}://${rest}`);
      if (!parsed || !rest || (!scheme && !/:\d+$/.test(rest))) {
        throw refusal(
          field,
          `"${clip(target)}" is no gRPC address. Write host:port, http://host:port or https://host:port.`,
        );
      }
      const host = bareHost(parsed);
      checkHost(host, target, field);
      const tls = scheme ? parsed.protocol === "https:" : !(allowPrivateUrls && hasNoCertificate(host));
      return { host, port: Number(parsed.port || (parsed.protocol === "https:" ? 443 : 80)), tls };
    },

    async resolve(host) {
      const family = isIP(host);
      const addresses = family === 0 ? await resolveAll(lookUp, host) : [{ address: host, family }];
      const refused = addresses.find(({ address }) => isRefused(address));
      if (refused) throw new AddressRefused(host, refused.address);
      return addresses;
    },
  };
}

/** URL parsers drop some control characters without a word; what we store and compare is the text as it was given. */
function checkText(text: string, field: string): void {
  if (text.length > MAX_URI_LENGTH) throw refusal(field, `is longer than ${MAX_URI_LENGTH} characters.`);
  if (/\p{Cc}/u.test(text)) throw refusal(field, "holds control characters. Leave them out.");
}

function refusal(field: string, description: string): SignalboxError {
  return invalidArgument([{ field, description }]);
}

const bareHost = (url: URL): string => url.hostname.replace(/^\[|\]$/g, "");

function hasNoCertificate(host: string): boolean {
  if (isIP(host) !== 0) return isPrivateAddress(host);
  return !host.includes(".") || /\.(localhost|local|internal|svc)$/.test(host);
}

function resolveAll(lookUp: Lookup, host: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookUp(host, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)));
  });
}
