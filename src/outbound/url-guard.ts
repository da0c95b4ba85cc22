/**
 * The one guard for every address that somebody gave us: agents' cards, agents, webhooks, token endpoints, keys. Whoever may register a URL may
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

/** Where the public Internet of IPv6 is: global unicast, and what leads to an IPv4 address, which is judged by that. */
const GLOBAL_IPV6 = ["2000::/3", ...IPV4_WITHIN_IPV6.map((prefix) => `${prefix}0.0.0.0/96`)];

/** What stays on this machine, or in a network of its owner: no block of PRIVATE_IPV4 or PRIVATE_IPV6 that leads out of it. */
const OWN_IPV4 = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"];
const OWN_IPV6 = ["::1/128", "fc00::/7", "fe80::/10"];

function blockList(ipv4: readonly string[], ipv6: readonly string[], prefixes: readonly string[]): BlockList {
  const list = new BlockList();
  for (const block of ipv4) {
    const [address, bits] = block.split("/") as [string, string];
    list.addSubnet(address, Number(bits), "ipv4");
    for (const prefix of prefixes) list.addSubnet(prefix + address, 96 + Number(bits), "ipv6");
  }
  for (const block of ipv6) {
    const [address, bits] = block.split("/") as [string, string];
    list.addSubnet(address, Number(bits), "ipv6");
  }
  return list;
}

const privateAddresses = blockList(PRIVATE_IPV4, PRIVATE_IPV6, IPV4_WITHIN_IPV6);
const globalAddresses = blockList([], GLOBAL_IPV6, []);
const ownAddresses = blockList(OWN_IPV4, OWN_IPV6, ["::ffff:"]);

/** Whether an IP address is none of the public Internet. */
function isPrivateAddress(given: string): boolean {
  // Where an interface is named, the address is link-local.
  const address = given.split("%", 1)[0]!;
  if (!isIPv6(address)) return privateAddresses.check(address, "ipv4");
  return privateAddresses.check(address, "ipv6") || !globalAddresses.check(address, "ipv6");
}

/** Whether what goes to an address stays on this machine, or in a network of its owner. */
function isOwnAddress(given: string): boolean {
  const address = given.split("%", 1)[0]!;
  return ownAddresses.check(address, isIPv6(address) ? "ipv6" : "ipv4");
}

/**
 * Ports of other protocols than HTTP and gRPC: those that browsers refuse (Fetch, "port blocking"), and databases, queues and remote
 * control. What we send could be commands there. They are refused unless private addresses are allowed.
 */
const OTHER_PROTOCOLS = new Set(
  [
    [0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109],
    [110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 445, 465, 512, 513, 514, 515, 526, 530],
    [531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 873, 989, 990, 993, 995, 1433, 1521, 1719, 1720, 1723, 2049],
    [2181, 2375, 3306, 3389, 3659, 4045, 4190, 4369, 5060, 5061, 5432, 5672, 5900, 6000, 6379, 6380, 6566, 6665, 6666],
    [6667, 6668, 6669, 6679, 6697, 9042, 9092, 10080, 11211, 25672, 27017, 27018],
  ].flat(),
);

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
  /** The addresses to connect to, one at least. Throws AddressRefused when one of them is not allowed, or the resolver's error. */
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

/** What must not be read on its way would go in the clear to an address that is not the owner's own. */
export class AddressNeedsTls extends Error {
  readonly code = "CREDENTIAL_NEEDS_TLS";

  constructor(host: string) {
    super(`${clip(host)} is no private address, and credentials go there over TLS alone.`);
    this.name = "AddressNeedsTls";
  }
}

/** The same guard for connections in the clear that carry credentials: they stay on this machine, or in a network of its owner. */
export const withinOwnNetwork = (guard: UrlGuard): UrlGuard => ({
  ...guard,
  async resolve(host) {
    const addresses = await guard.resolve(host);
    if (addresses.every(({ address }) => isOwnAddress(address))) return addresses;
    throw new AddressNeedsTls(host);
  },
});

/** Whether a host is written as an address that is not the owner's own. A name may be anything. */
export const isForeignAddress = (host: string): boolean => isIP(host) !== 0 && !isOwnAddress(host);

const REMEDY = "Set allow-private-urls to allow such addresses.";

export interface UrlGuardOptions {
  /** Whether private and loopback addresses are allowed. */
  allowPrivateUrls: boolean;
  /** Resolves names. Default: that of the system. */
  lookup?: Lookup | undefined;
}

export function createUrlGuard(options: UrlGuardOptions): UrlGuard {
  const { allowPrivateUrls } = options;
  const lookUp = options.lookup ?? (lookup as Lookup);
  const isRefused = (address: string) => !allowPrivateUrls && isPrivateAddress(address);

  function checkHost(host: string, given: string, field: string): void {
    const local = isIP(host) !== 0 ? isRefused(host) : !allowPrivateUrls && /(^|\.)localhost\.?$/.test(host);
    if (local) throw refusal(field, `"${clip(given)}" leads to a private or local address. ${REMEDY}`);
  }

  function checkPort(port: number, field: string): void {
    if (allowPrivateUrls || !OTHER_PROTOCOLS.has(port)) return;
    throw refusal(field, `port ${port} is that of another protocol. ${REMEDY}`);
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
      checkPort(portOf(parsed), field);
      return parsed;
    },

    checkTarget(target, field) {
      checkText(target, field);
      const [, scheme, rest] = /^(?:(https?):\/\/)?([^/?#@\s\\]+)\/?$/i.exec(target) ?? [];
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
      checkPort(portOf(parsed), field);
      return { host, port: portOf(parsed), tls };
    },

    async resolve(host) {
      const family = isIP(host);
      const addresses = family === 0 ? await resolveAll(lookUp, host) : [{ address: host, family }];
      if (addresses.length === 0) throw Object.assign(new Error("no address"), { code: "ENOTFOUND" });
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

export const bareHost = (url: URL): string => url.hostname.replace(/^\[|\]$/g, "");

const portOf = ({ port, protocol }: URL): number => (port === "" ? (protocol === "https:" ? 443 : 80) : Number(port));

function hasNoCertificate(host: string): boolean {
  if (isIP(host) !== 0) return isPrivateAddress(host);
  return !host.includes(".") || /\.(localhost|local|internal|svc)$/.test(host);
}

function resolveAll(lookUp: Lookup, host: string): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    lookUp(host, { all: true }, (error, addresses) => (error ? reject(error) : resolve(addresses)));
  });
}
