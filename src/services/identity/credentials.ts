/** What of a request tells who it comes from, whatever it came over; and what a credential proves. */
import type { Authentication } from "../../domain/identity/principal.ts";

/** The other end of a connection. */
export interface Peer {
  /** Its IP address; undefined over a Unix socket. */
  readonly address: string | undefined;
  /** Whether it came over a Unix socket. */
  readonly isLocalSocket: boolean;
  /** The certificate that it was authenticated with, checked against `tls.client-ca` already; DER. */
  readonly certificate: Uint8Array | undefined;
}

/** What of a request tells who it comes from. */
export interface Credentials {
  /** By its name in lower case; several of one name are joined by commas. */
  header(name: string): string | null;
  /** Of HTTP: `POST` for gRPC. */
  readonly method: string;
  /** As the client has sent it, with the query: `/lf.a2a.v1.A2AService/GetTask` for gRPC. */
  readonly target: string;
  /** The host that the client has named. */
  readonly authority: string;
  readonly peer: Peer;
  /**
   * SHA-256 of the request's content, as RFC 9530 has it: of the body of HTTP as it came, and of gRPC's framed message. Undefined where
   * the content is not there as a whole, as that of a stream. A request without content has that of no bytes.
   */
  contentDigest(): Uint8Array | undefined;
}

/** What a credential proves. */
export interface Identity {
  /** As `Principal.id`. */
  readonly id: string;
  readonly authentication: Authentication;
  /** Who acts on its behalf, as `Principal.actors`. */
  readonly actors: readonly string[];
  /** Where the credential itself says so: the workspace, and what it may do there. Undefined: membership says so. */
  readonly granted?: Granted;
}

export interface Granted {
  readonly workspaceId: string;
  readonly roles: readonly string[];
  /** Beside those of the roles. */
  readonly scopes: readonly string[];
  readonly agentId?: string;
}

/** One way to say who one is. */
export interface Scheme {
  /**
   * Undefined: the request has no credential of this kind. A scheme whose work is done before it returns gives no promise.
   *
   * @throws SignalboxError UNAUTHENTICATED for one that it has, and that is not good.
   */
  identify(credentials: Credentials): Identity | undefined | Promise<Identity | undefined>;
}
