/** Who is at the other end of a connection. Found out once, when the connection is taken, and kept with its socket. */
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import type { Peer } from "../services/identity/credentials.ts";

const PEER = Symbol("peer");

/** Of a connection that is gone before anybody asked. It is nobody, so that nothing is believed of it. */
const GONE: Peer = { address: undefined, isLocalSocket: false, certificate: undefined };

/** Notes who is there. A certificate counts only where it was checked. */
export function markPeer(socket: Socket, isLocalSocket: boolean): void {
  const shown = socket instanceof TLSSocket && socket.authorized ? socket.getPeerX509Certificate() : undefined;
  const peer: Peer = {
    address: isLocalSocket ? undefined : plainAddress(socket.remoteAddress),
    isLocalSocket,
    certificate: shown?.raw,
  };
  (socket as { [PEER]?: Peer })[PEER] = peer;
}

/** `owner` has a socket, or had one: HTTP/2 throws where it is gone. */
export function peerOf(owner: { readonly socket?: unknown } | undefined): Peer {
  try {
    return (owner?.socket as { [PEER]?: Peer } | undefined)?.[PEER] ?? GONE;
  } catch {
    return GONE;
  }
}

/** IPv4 as it is written, where a socket for IPv6 took the connection. */
function plainAddress(address: string | undefined): string | undefined {
  return address?.startsWith("::ffff:") && address.includes(".") ? address.slice("::ffff:".length) : address;
}
