/** What of a request tells who it comes from, by hand. */
import type { Credentials, Peer } from "../../../src/services/identity/credentials.ts";

export const NO_PEER: Peer = { address: "203.0.113.9", isLocalSocket: false, certificate: undefined };

export const request = (headers: Readonly<Record<string, string>> = {}, peer: Partial<Peer> = {}): Credentials => ({
  header: (name) => headers[name] ?? null,
  method: "POST",
  target: "/message:send",
  authority: "router.example",
  peer: { ...NO_PEER, ...peer },
  contentDigest: () => undefined,
});

export const bearer = (token: string): Credentials => request({ authorization: `Bearer ${token}` });
