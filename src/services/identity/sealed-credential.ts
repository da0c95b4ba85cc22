/** A credential as it is stored: what may be shown, and what is encrypted and bound to it. */
import { hash } from "node:crypto";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type AgentCredential, AgentCredentialSchema } from "../../../gen/signalbox/v1/registry_pb.ts";
import { type GivenKind, secretOf, withSecret } from "../../domain/identity/agent-credential.ts";
import type { AgentPlace } from "../agent-port.ts";
import type { KnownCredential } from "./credential-source.ts";
import { boundTo, type SecretBox, secretUnreadable } from "./secret-box.ts";

/** What is encrypted. */
interface Sealed {
  secret: string;
  /** As KnownCredential.hosts. */
  hosts: string[];
  /** SHA-256 of the body: whoever changes that, as where a client secret goes, has no secret to go with it. */
  body: string;
}

const aboutOf = ({ workspaceId, agentId }: AgentPlace): string => boundTo("agent_credentials", workspaceId, agentId);

export function sealCredential(box: SecretBox, place: AgentPlace, { kind, hosts }: KnownCredential) {
  const body = toBinary(AgentCredentialSchema, shown(withSecret(kind, "")));
  const sealed: Sealed = { secret: secretOf(kind), hosts: [...hosts], body: hash("sha256", body) };
  return { body, sealed: box.seal(Buffer.from(JSON.stringify(sealed)), aboutOf(place)) };
}

/** @throws SignalboxError SECRET_UNREADABLE */
export function openCredential(
  box: SecretBox,
  place: AgentPlace,
  { body, sealed }: { body: Uint8Array; sealed: Uint8Array },
): KnownCredential {
  const about = aboutOf(place);
  const opened = JSON.parse(box.open(sealed, about).toString()) as Sealed;
  const { kind } = fromBinary(AgentCredentialSchema, body);
  if (kind.case === undefined || opened.body !== hash("sha256", body)) throw secretUnreadable(about);
  return { kind: withSecret(kind, opened.secret), hosts: new Set(opened.hosts) };
}

const shown = (kind: GivenKind): AgentCredential => ({
  $typeName: "signalbox.v1.AgentCredential",
  agentId: "",
  kind,
  updatedBy: "",
});

/** What may be seen of it. */
export const shownBody = (body: Uint8Array): AgentCredential => fromBinary(AgentCredentialSchema, body);
