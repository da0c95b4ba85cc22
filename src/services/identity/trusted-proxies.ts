/** Peers that are believed when they say whose certificate they have seen. */
import { BlockList, isIP } from "node:net";
import { FORWARDED_CERTIFICATE_HEADER } from "../../domain/identity/forwarded-certificate.ts";
import type { Credentials, Peer } from "./credentials.ts";

export interface TrustedProxies {
  /** What a trusted peer says of whom it speaks for; null where it says nothing, or is not trusted. */
  forwarded(credentials: Credentials): string | null;
}

/** Of IP addresses, networks such as `10.0.0.0/8`, `loopback` and `unix`. */
export function createTrustedProxies(networks: readonly string[]): TrustedProxies {
  const addresses = new BlockList();
  for (const network of networks.flatMap((given) => (given === "loopback" ? LOOPBACK : [given]))) {
    const [address = "", bits] = network.split("/");
    const family = isIP(address);
    if (family === 0) continue;
    addresses.addSubnet(
      address,
      bits === undefined ? (family === 4 ? 32 : 128) : Number(bits),
      `ipv${family as 4 | 6}`,
    );
  }
  const takesSockets = networks.includes("unix");

  function isTrusted({ address, isLocalSocket }: Peer): boolean {
    if (isLocalSocket) return takesSockets;
    // The zone of a link-local address names an interface of this machine.
    const bare = address?.split("%", 1)[0] ?? "";
    const family = isIP(bare);
    // An IPv4 address that is mapped into IPv6 is found among those of IPv4.
    return family !== 0 && addresses.check(bare, `ipv${family as 4 | 6}`);
  }

  return {
    forwarded(credentials) {
      const header = credentials.header(FORWARDED_CERTIFICATE_HEADER);
      return header !== null && isTrusted(credentials.peer) ? header : null;
    },
  };
}

const LOOPBACK = ["127.0.0.0/8", "::1"];
