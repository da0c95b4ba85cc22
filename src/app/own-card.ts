/** What the configuration says of the router's own card. */
import { readFile } from "node:fs/promises";
import { fromJsonString } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Config } from "../config/settings.ts";
import type { CardSettings } from "../domain/card.ts";
import { SignalboxError } from "../domain/errors.ts";
import { cardSecurity } from "../domain/identity/security-schemes.ts";

/** Throws EXTENDED_CARD_UNREADABLE. */
export async function readOwnCard({ card, auth, jwt, tls }: Config): Promise<CardSettings> {
  const { name, description, version, documentationUrl, providerOrganization, providerUrl } = card;
  const extended = card.extended === undefined ? undefined : await readCard(card.extended);
  return {
    name,
    description,
    version,
    ...(documentationUrl !== undefined && { documentationUrl }),
    ...(providerOrganization !== undefined && {
      provider: { organization: providerOrganization, url: providerUrl ?? "" },
    }),
    security: cardSecurity({
      issuers: jwt.issuers,
      certificates: tls.clientCa === undefined ? "none" : tls.clientCertificates,
      isRequired: auth.anonymousRole === "none",
    }),
    ...(extended && { extended }),
  };
}

async function readCard(path: string): Promise<AgentCard> {
  try {
    return fromJsonString(AgentCardSchema, await readFile(path, "utf8"), { ignoreUnknownFields: true });
  } catch (error) {
    throw new SignalboxError({
      code: "FAILED_PRECONDITION",
      reason: "EXTENDED_CARD_UNREADABLE",
      message: `card.extended: ${path} cannot be read as an agent card: ${(error as Error).message}`,
      cause: error,
    });
  }
}
