/** How callers say who they are, as agent cards declare it (A2A specification, section 4.5). Pure. */
import { create } from "@bufbuild/protobuf";
import {
  type SecurityRequirement,
  SecurityRequirementSchema,
  type SecurityScheme,
  SecuritySchemeSchema,
} from "../../../gen/lf/a2a/v1/a2a_pb.ts";

/** What of the configuration decides it. */
export interface AcceptedCredentials {
  /** Addresses of the issuers whose tokens are accepted. */
  readonly issuers: readonly string[];
  /** Whether clients may be known by a certificate, and whether each must show one. */
  readonly certificates: "none" | "accepted" | "required";
  /** Whether nobody is let in who does not say who they are. */
  readonly isRequired: boolean;
}

/** What a card declares. */
export interface CardSecurity {
  readonly schemes: Readonly<Record<string, SecurityScheme>>;
  /** Meeting one is enough. Empty where callers need not say who they are. */
  readonly requirements: readonly SecurityRequirement[];
}

const MTLS = "mtls";

/** In the order in which people read of them: keys, signatures, tokens, certificates. */
export function cardSecurity({ issuers, certificates, isRequired }: AcceptedCredentials): CardSecurity {
  const schemes: Record<string, SecurityScheme> = {
    apiKey: scheme({
      case: "apiKeySecurityScheme",
      value: { description: "A key of a workspace.", location: "header", name: "X-API-Key" },
    }),
    bearer: scheme({
      case: "httpAuthSecurityScheme",
      value: {
        description: "A key of a workspace, or a token of an issuer that this server accepts.",
        scheme: "Bearer",
        bearerFormat: issuers.length > 0 ? "sbx_ key or JWT" : "sbx_ key",
      },
    }),
    httpSignature: scheme({
      case: "httpAuthSecurityScheme",
      value: {
        description:
          "HTTP Message Signatures (RFC 9421) in the headers Signature-Input and Signature, by hmac-sha256 with a signing key of a workspace.",
        scheme: "Signature",
      },
    }),
  };
  for (const [i, issuer] of issuers.entries()) {
    schemes[i === 0 ? "openIdConnect" : `openIdConnect${i + 1}`] = scheme({
      case: "openIdConnectSecurityScheme",
      value: { description: `Tokens of ${issuer}.`, openIdConnectUrl: discoveryUrl(issuer) },
    });
  }
  if (certificates !== "none") {
    schemes[MTLS] = scheme({
      case: "mtlsSecurityScheme",
      value: { description: "A certificate of an authority that this server trusts." },
    });
  }
  // Where each connection must show a certificate, whatever else is sent comes over one that has.
  const beside = certificates === "required" ? [MTLS] : [];
  const requirements = isRequired
    ? Object.keys(schemes).map((name) => requirement([...new Set([name, ...beside])]))
    : certificates === "required"
      ? [requirement([MTLS])]
      : [];
  return { schemes, requirements };
}

/** Where an issuer describes itself (OpenID Connect Discovery 1.0, section 4). */
const discoveryUrl = (issuer: string): string => `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;

const scheme = (kind: NonNullable<Parameters<typeof create<typeof SecuritySchemeSchema>>[1]>["scheme"]) =>
  create(SecuritySchemeSchema, { ...(kind && { scheme: kind }) });

const requirement = (names: readonly string[]): SecurityRequirement =>
  create(SecurityRequirementSchema, { schemes: Object.fromEntries(names.map((name) => [name, {}])) });
