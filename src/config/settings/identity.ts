/** Settings of who may call: anonymous callers, tokens, certificates, sidecars; and of what the server keeps secrets with. */
import { isIP } from "node:net";
import { ROLES } from "../../domain/identity/roles.ts";
import { boolean, durationMs, integer, isLoopbackHost, list, oneOf, path, text } from "../kinds.ts";
import type { Setting } from "./setting.ts";

const ROLE_NAMES = Object.keys(ROLES) as (keyof typeof ROLES)[];

export const IDENTITY_SETTINGS = {
  "auth.anonymous-role": {
    ...oneOf("none", ...ROLE_NAMES),
    default: (given: { host: string }) => (isLoopbackHost(given.host) ? "admin" : "none"),
    defaultText: "`admin` while `host` is loopback, else `none`",
    about:
      "What callers may do who do not say who they are, in the workspace `default`. With `none` everybody must authenticate. See docs/identity.md.",
  },
  "auth.expose-anonymous": {
    ...boolean,
    default: false,
    about:
      "Must be `true` for a server that other machines can reach, and that lets anonymous callers in. Everybody who reaches it may then do what `auth.anonymous-role` says.",
  },
  "auth.admin-key": {
    ...text(
      "sbx_, an id of lower-case letters and digits, _ and a secret of at least 32 letters, digits, - and _",
      "key",
      isKey,
    ),
    secret: true,
    about:
      "A key of an admin of the workspace `default`, beside those in the database: for automatic set-up, and for who has lost all others. Best given by the environment.",
  },
  "auth.signature-window-seconds": {
    ...integer(1, 3_600, "seconds"),
    default: 300,
    about: "How far the time of a signed request may lie from the server's, in seconds.",
  },
  "auth.trusted-proxies": {
    ...list("IP addresses, networks such as 10.0.0.0/8, loopback, or unix", "networks", isNetwork),
    default: [],
    about:
      "Peers whose X-Forwarded-Client-Cert header says who calls: sidecars of a service mesh. From all others the header counts for nothing. See docs/identity.md.",
  },
  "auth.open-metrics": {
    ...boolean,
    default: (given: { "auth.anonymous-role": string }) => given["auth.anonymous-role"] !== "none",
    defaultText: "`true` where anonymous callers are let in, else `false`",
    about:
      "Whether `/metrics` and `/health/deep` answer everybody. Else they take a principal of the workspace `default` with the scope `metrics.read`.",
  },
  "jwt.issuers": {
    ...list("https:// addresses of issuers", "urls", isIssuer),
    default: [],
    about:
      "Issuers of tokens that are accepted (OpenID Connect): their keys are found by discovery. Plain http:// only where `allow-private-urls` holds.",
  },
  "jwt.audience": {
    ...list("names", "names", (name) => name.trim() !== ""),
    default: [],
    about: "What tokens must be meant for, one of these in `aud`. Needed where there are issuers.",
  },
  "jwt.algorithms": {
    ...list("of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA", "names", (name) =>
      /^(?:(?:RS|PS|ES)(?:256|384|512)|EdDSA)$/.test(name),
    ),
    default: ["RS256", "PS256", "ES256", "EdDSA"],
    about: "Algorithms with which tokens may be signed.",
  },
  "jwt.clock-skew-seconds": {
    ...integer(0, 300, "seconds"),
    default: 30,
    about: "How far the clocks of issuers may be off, in seconds.",
  },
  "jwt.workspace-claim": {
    ...text("the name of a claim", "name"),
    about:
      "Claim that names the workspace of a token. Every issuer can then name every workspace: set it only where you trust all issuers with that. Without it, what a token may do is what its subject is a member of. See docs/identity.md.",
  },
  "jwt.roles-claim": {
    ...text("the name of a claim", "name"),
    default: "roles",
    about: "Claim with the roles in that workspace, a list or a text. Counts only with `jwt.workspace-claim`.",
  },
  "jwt.scopes-claim": {
    ...text("the name of a claim", "name"),
    default: "scope",
    about: "Claim with scopes beside those of the roles. Counts only with `jwt.workspace-claim`.",
  },
  "tls.certificate": {
    ...path("the path of a PEM file", "file"),
    about:
      "Certificate of both listeners, with its chain. With it they speak TLS, and nothing else. Read anew when it changes. See docs/tls.md.",
  },
  "tls.key": {
    ...path("the path of a PEM file", "file"),
    about: "Private key of `tls.certificate`. Read anew when it changes.",
  },
  "tls.client-ca": {
    ...path("the path of a PEM file", "file"),
    about:
      "Authorities that sign the certificates of clients. With it clients may show one, and be known by it. Read anew when it changes.",
  },
  "tls.client-certificates": {
    ...oneOf("accepted", "required"),
    default: "accepted",
    about: "Whether a client must show a certificate. Needs `tls.client-ca`.",
  },
  "tls.client-crl": {
    ...path("the path of a PEM file", "file"),
    about: "Certificates of clients that were revoked: CRLs of the authorities. Read anew when it changes.",
  },
  "tls.trust-domains": {
    ...list("SPIFFE trust domains such as mesh.example.com", "names", (name) => /^[a-z0-9._-]{1,255}$/.test(name)),
    default: [],
    about:
      "Trust domains of the SPIFFE IDs that count, from certificates and from sidecars. None: no SPIFFE ID counts.",
  },
  "tls.max-certificate-hours": {
    ...integer(0, 87_600, "hours"),
    default: 0,
    about: "Longest time that a client's certificate may have been issued for, in hours. 0 when there is no limit.",
  },
  "http.socket": {
    ...path("the path of a Unix socket", "file"),
    about:
      "Unix socket on which the HTTP listener listens beside its port, without TLS: for a sidecar on this machine.",
  },
  "grpc.socket": {
    ...path("the path of a Unix socket", "file"),
    about: "The same for the gRPC listener.",
  },
  "secrets.key": {
    ...text("the path of a file, or keys themselves: base64 of 32 bytes each, one a line", "keys"),
    secret: true,
    defaultText:
      "`secrets.key` in `data.dir`, made when it is needed, with the embedded database; none with PostgreSQL",
    about:
      "AES-256 keys that encrypt what the server keeps of others' secrets: the first encrypts, all decrypt. The same on all servers of a database. See docs/agent-credentials.md.",
  },
  "card.key": {
    ...text("the path of a PEM file, or the PEM itself", "key"),
    secret: true,
    defaultText:
      "`card-key.pem` in `data.dir`, made when it is needed, with the embedded database; none with PostgreSQL",
    about:
      "Private EC P-256 key that signs the cards that are served; its public half is at /.well-known/jwks.json. The same on all servers of a database. None: cards are not signed. See docs/cards.md.",
  },
  "card.previous-key": {
    ...text("the path of a PEM file, or the PEM itself", "key"),
    secret: true,
    about: "The key before `card.key`: it signs no more, and is published as long as it stands here.",
  },
  "card.public-skills": {
    ...boolean,
    default: false,
    about:
      "Whether the router's card shows what the agents of `default` can do also to callers who have not said who they are, where `auth.anonymous-role` is `none`. Else it shows them how to authenticate.",
  },
  "card.trusted-keys": {
    ...path("the path of a JSON file", "file"),
    about:
      "JWK Set of keys that sign agents' cards. Beside them a key counts that is served over https from the host of the card itself.",
  },
  "limits.header-bytes": {
    ...integer(1_024, 1_048_576, "bytes"),
    default: 32_768,
    about: "Most that all headers of a request may come to, in bytes.",
  },
  "limits.connection-streams": {
    ...integer(1, 100_000),
    default: 1_000,
    about: "Most calls that one connection may have under way.",
  },
  "limits.connections": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about: "Most connections that each listener has at a time. One more is closed at once.",
  },
  "limits.address-connections": {
    ...integer(0, 1_000_000),
    default: 1_000,
    about:
      "Most connections that each listener has from one IP address, loopback and Unix sockets excepted. 0 when there is no limit, as behind a proxy that all callers come through.",
  },
  "limits.connection-age-ms": {
    ...durationMs(0),
    default: 3_600_000,
    about:
      "How old a connection becomes, in milliseconds: then it takes no new call, so that clients spread over new servers. 0 when there is no limit.",
  },
  "limits.failed-authentications": {
    ...integer(0, 1_000_000),
    default: 20,
    about:
      "Failed authentications of one address within a second, after which nothing that comes from it is looked at for the rest of that second; a network of 64 bits of IPv6 is one address. Raise it where a proxy calls for many. 0 when there is no limit.",
  },
  "limits.principal-calls": {
    ...integer(0, 1_000_000),
    default: 0,
    about:
      "Calls a second of one principal, over all servers, where its workspace has no quota that says so. 0 when there is no limit.",
  },
} as const satisfies Record<string, Setting>;

function isKey(key: string): boolean {
  return /^sbx_[a-z0-9]{4,32}_[A-Za-z0-9_-]{32,128}$/.test(key);
}

function isNetwork(given: string): boolean {
  if (given === "loopback" || given === "unix") return true;
  const [address = "", bits] = given.split("/");
  const family = isIP(address);
  if (family === 0) return false;
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128));
}

function isIssuer(given: string): boolean {
  const url = URL.parse(given);
  return url !== null && /^https?:$/.test(url.protocol) && !url.search && !url.hash && !url.username;
}
