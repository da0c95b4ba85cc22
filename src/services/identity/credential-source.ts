/** What outbound asks of credentials, and what the registry asks of outbound about them. */
import type { AgentCard } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { GivenKind } from "../../domain/identity/agent-credential.ts";
import type { AgentPlace } from "../agent-port.ts";

/** A credential with its secret, in memory only. One revision is one object. */
export interface KnownCredential {
  readonly kind: GivenKind;
  /** The hosts it was set for, as hostOf gives them: it goes to no other. */
  readonly hosts: ReadonlySet<string>;
}

export interface CredentialSource {
  /**
   * What the router proves itself with to an agent; undefined: it has nothing. A promise only where something must be read.
   *
   * @throws SignalboxError SECRET_UNREADABLE, DATABASE_UNAVAILABLE
   */
  of(place: AgentPlace): KnownCredential | undefined | Promise<KnownCredential | undefined>;
}

/** Whether credentials could be used at all, as far as that can be seen before. */
export interface CredentialChecks {
  /**
   * @throws SignalboxError CREDENTIAL_NEEDS_TLS where calls to the agent would carry it in the clear; INVALID_ARGUMENT, naming a field
   * under `at`, for an address of tokens that is not allowed.
   */
  check(kind: GivenKind, card: AgentCard, at: string): void;
}
