/** What a request to an agent carries to prove who calls, and over which connections it may go. */
import { randomBytes } from "node:crypto";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import type { GivenKind } from "../domain/identity/agent-credential.ts";
import { AgentCallError, type AgentPlace } from "../services/agent-port.ts";
import type { CredentialChecks, CredentialSource, KnownCredential } from "../services/identity/credential-source.ts";
import type { Runtime } from "../services/runtime.ts";
import { type OutgoingRequest, signatureHeaders } from "./request-signature.ts";
import { createTokenFetcher, type TokenClient } from "./token-fetcher.ts";
import { createTokens } from "./tokens.ts";
import { bareHost, createUrlGuard, isForeignAddress, type UrlGuardOptions } from "./url-guard.ts";

/** The certificate that is shown in TLS, and who may have signed that of the other end: the system's authorities if none is said. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
  readonly ca?: string;
}

/**
 * Over which connections a request goes: any; in the clear those alone that stay on this machine, or in a network of its owner; or
 * those of a certificate.
 */
export type Way = "any" | "own-network" | TlsIdentity;

export interface Proof {
  readonly way: Way;
  /** What a request carries. A signature is made anew for each. */
  headers(request: OutgoingRequest): Record<string, string>;
  /** Tells that the agent does not know who called. True where another proof may be had, once: this one was a token. */
  wasRefused(): boolean;
}

/** Where a request goes. */
export interface Destination {
  /** As hostOf gives it. */
  readonly host: string;
  readonly isTls: boolean;
}

export interface Prover extends CredentialChecks {
  /**
   * Undefined: the agent has no credential. A promise only where something must be read or fetched.
   *
   * @throws AgentCallError "unreachable": nothing was sent. "refused": those who give out tokens do not know this router.
   */
  proof(place: AgentPlace, to: Destination, caller: Caller): Proof | undefined | Promise<Proof | undefined>;
  /** The same for what can be had without, as a card: undefined also where the credential must not go. */
  optionalProof(place: AgentPlace, to: Destination, caller: Caller): Promise<Proof | undefined>;
  close(): Promise<void>;
}

/** Who waits. */
export interface Caller {
  readonly signal: AbortSignal;
}

export interface ProverOptions extends UrlGuardOptions {
  source: CredentialSource;
  runtime: Pick<Runtime, "elapsedMs" | "random" | "now">;
}

export function createProver(options: ProverOptions): Prover {
  const { source, runtime, allowPrivateUrls } = options;
  const guard = createUrlGuard(options);
  const fetcher = createTokenFetcher(options);
  const tokens = createTokens({ fetch: fetcher.fetch, runtime });
  /** What is made of a credential once: for each way that it may go. */
  const made = new WeakMap<KnownCredential, { tls?: Proof; clear?: Proof }>();

  function proofOf(credential: KnownCredential, to: Destination, caller: Caller): Proof | Promise<Proof> {
    const obstacle = obstacleTo(credential, to);
    if (obstacle) throw obstacle;
    const { kind } = credential;
    const way: Way = to.isTls ? "any" : "own-network";
    if (kind.case === "oauth2" || kind.case === "oidc") {
      const client: TokenClient = kind.value;
      const token = tokens.of(client, caller.signal);
      const proof = (text: string): Proof => bearing(way, text, () => tokens.drop(client, text));
      return typeof token === "string" ? proof(token) : token.then(proof);
    }
    const known = made.get(credential) ?? {};
    const name = to.isTls ? "tls" : "clear";
    const proof = known[name] ?? lasting(kind, way);
    known[name] = proof;
    made.set(credential, known);
    return proof;
  }

  function lasting(kind: Exclude<GivenKind, { case: "oauth2" | "oidc" }>, way: Way): Proof {
    switch (kind.case) {
      case "bearer":
        return bearing(way, kind.value.token, never);
      case "apiKey": {
        const headers = { [kind.value.header.toLowerCase()]: kind.value.key };
        return { way, headers: () => headers, wasRefused: never };
      }
      case "hmac": {
        const { keyId } = kind.value;
        const secret = Buffer.from(kind.value.secret, "base64");
        const headers = (request: OutgoingRequest) => {
          const created = Math.floor(runtime.now().getTime() / 1000);
          return signatureHeaders(request, { keyId, secret, created, nonce: randomBytes(16).toString("base64url") });
        };
        return { way, headers, wasRefused: never };
      }
      case "mutualTls": {
        const { certificateChain: cert, privateKey: key, certificateAuthorities: ca } = kind.value;
        return { way: { cert, key, ...(ca !== "" && { ca }) }, headers: nothing, wasRefused: never };
      }
    }
  }

  async function known(place: AgentPlace): Promise<KnownCredential | undefined> {
    try {
      return await source.of(place);
    } catch (error) {
      throw unreadable(error);
    }
  }

  function obstacleTo({ kind, hosts }: KnownCredential, { host, isTls }: Destination): AgentCallError | undefined {
    if (!hosts.has(host)) return otherHost();
    const needsTls = kind.case === "mutualTls" || !allowPrivateUrls;
    return needsTls && !isTls ? needsTlsError() : undefined;
  }

  /** An address that secrets are sent to, given by whoever sets a credential. */
  function checkTokenUrl(url: string, field: string): void {
    const parsed = guard.checkUrl(url, field);
    if (parsed.protocol === "https:" || (allowPrivateUrls && !isForeignAddress(bareHost(parsed)))) return;
    throw invalidArgument([{ field, description: "a client secret goes there, so it must be https://." }]);
  }

  return {
    proof(place, to, caller) {
      let credential: KnownCredential | undefined | Promise<KnownCredential | undefined>;
      try {
        credential = source.of(place);
      } catch (error) {
        throw unreadable(error);
      }
      if (credential === undefined) return undefined;
      if (!(credential instanceof Promise)) return proofOf(credential, to, caller);
      return credential.then(
        (found) => found && proofOf(found, to, caller),
        (error: unknown) => Promise.reject(unreadable(error)),
      );
    },

    async optionalProof(place, to, caller) {
      const credential = await known(place);
      return credential && obstacleTo(credential, to) === undefined ? proofOf(credential, to, caller) : undefined;
    },

    check(kind, card, at) {
      if (kind.case === "oauth2") checkTokenUrl(kind.value.tokenUrl, `${at}.oauth2.tokenUrl`);
      if (kind.case === "oidc") {
        checkTokenUrl(kind.value.issuer, `${at}.oidc.issuer`);
        if (/[?#]/.test(kind.value.issuer)) {
          const field = `${at}.oidc.issuer`;
          throw invalidArgument([{ field, description: "an issuer has neither query nor fragment." }]);
        }
      }
      const isInTheClear = card.supportedInterfaces.some(({ protocolBinding, url }) => {
        if (protocolBinding.toUpperCase() === "IN-PROCESS") return false;
        try {
          const { host, isTls } = destinationOf(guard, protocolBinding, url);
          if (isTls) return false;
          return (
            kind.case === "mutualTls" ||
            !allowPrivateUrls ||
            isForeignAddress(host.replace(/:\d+$/, "").replace(/^\[|\]$/g, ""))
          );
        } catch {
          // It is not called.
          return false;
        }
      });
      if (isInTheClear) throw credentialNeedsTls();
    },

    close: () => fetcher.close(),
  };
}

/** Where calls over an interface go. Throws as the guard does. */
export function destinationOf(guard: ReturnType<typeof createUrlGuard>, binding: string, url: string): Destination {
  if (binding.toUpperCase() === "GRPC") {
    const { host, port, tls } = guard.checkTarget(url, "url");
    return { host: hostAndPort(host, port), isTls: tls };
  }
  return destinationOfUrl(guard.checkUrl(url, "url"));
}

export function destinationOfUrl(url: URL): Destination {
  const isTls = url.protocol === "https:";
  return { host: hostAndPort(bareHost(url), Number(url.port || (isTls ? 443 : 80))), isTls };
}

const hostAndPort = (host: string, port: number): string =>
  `${host.includes(":") ? `[${host}]` : host.replace(/\.$/, "")}:${port}`;

const never = (): boolean => false;
const nothing = (): Record<string, string> => NO_HEADERS;
const NO_HEADERS: Record<string, string> = {};

function bearing(way: Way, token: string, wasRefused: () => boolean): Proof {
  const headers = { authorization: `Bearer ${token}` };
  return { way, headers: () => headers, wasRefused };
}

const NEEDS_TLS = "credentials are not sent without TLS";

const needsTlsError = () =>
  new AgentCallError("unreachable", `The agent could not be reached: ${NEEDS_TLS}.`, {
    reason: "CREDENTIAL_NEEDS_TLS",
  });

const otherHost = () =>
  new AgentCallError(
    "unreachable",
    "The agent could not be reached: its card names another host than its credential was set for. Set the credential again.",
    { reason: "CREDENTIAL_FOR_OTHER_HOST" },
  );

const unreadable = (cause: unknown) =>
  cause instanceof AgentCallError
    ? cause
    : new AgentCallError("unreachable", "The agent could not be reached: its credential cannot be read.", { cause });

const credentialNeedsTls = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "CREDENTIAL_NEEDS_TLS",
    message: `The agent's card names an interface without TLS, and ${NEEDS_TLS}: a certificate never, anything else to private addresses alone, where allow-private-urls is set. Have the card name an https:// address.`,
  });
