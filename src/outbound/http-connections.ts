/** HTTP connections that the guard watches over. */
import { isIP, type LookupFunction } from "node:net";
import { Agent, buildConnector } from "undici";
import type { TlsIdentity } from "./agent-proof.ts";
import type { UrlGuard } from "./url-guard.ts";

/** No connection came about, so nothing of the request was sent. */
export class ConnectFailure extends Error {
  constructor(cause: unknown) {
    super("no connection", { cause });
    this.name = "ConnectFailure";
  }
}

/** Longest time to make a TCP or TLS connection, in milliseconds. */
const CONNECT_TIMEOUT_MS = 10_000;

/** Looks names up for a connection: the addresses that the guard has checked, and no others. */
export function guardedLookup(guard: UrlGuard): LookupFunction {
  return (host, options, callback) => {
    guard.resolve(host).then(
      (addresses) => {
        if (options.all) callback(null, addresses);
        else callback(null, addresses[0]!.address, addresses[0]!.family);
      },
      (error) => callback(error, []),
    );
  };
}

/**
 * A pool of HTTP/1.1 connections of which each goes to an address that the guard has checked, redirects and names that
 * change included. Calls set their own time limits: the pool has none of its own. `identity`: what is shown in TLS.
 */
export function createHttpConnections(guard: UrlGuard, identity?: TlsIdentity): Agent {
  // HTTP/1.1 alone: there, the end of a call is the end of its connection, which is how the agent learns of it.
  const open = buildConnector({
    ...identity,
    lookup: guardedLookup(guard),
    timeout: CONNECT_TIMEOUT_MS,
    allowH2: false,
  });

  const connect: buildConnector.connector = (target, callback) => {
    const tryOpen = () =>
      open(target, (error, socket) => {
        if (error) callback(new ConnectFailure(error), null);
        else callback(null, socket!);
      });
    // Nobody looks up an address, so the guard is asked here.
    if (isIP(target.hostname) === 0) tryOpen();
    else guard.resolve(target.hostname).then(tryOpen, (error) => callback(new ConnectFailure(error), null));
  };
  return new Agent({ connect, allowH2: false, headersTimeout: 0, bodyTimeout: 0 });
}
