/** Who asks for a card over HTTP. */
import { SignalboxError, scopeMissing } from "../domain/errors.ts";
import { holds, type Principal } from "../domain/identity/principal.ts";
import type { CardCaller } from "../services/cards.ts";
import type { Authenticator } from "../services/identity/authenticator.ts";
import type { Credentials } from "../services/identity/credentials.ts";

/** What reading cards needs, as the RPCs that read agents do. */
const SCOPE = "agents.read";

/** Headers by which the answers to one address differ. */
export const VARY = ["Authorization", "X-Api-Key", "Signature-Input", "Signalbox-Workspace"];

export interface AskedBy {
  /** Undefined for somebody who has not said who it is, where everybody must. */
  readonly caller: CardCaller;
  /** Whether the answer is for everybody who says nothing of who they are, and may be kept for them. */
  readonly isPublic: boolean;
}

/**
 * The caller of a request. Cards say how to authenticate: whoever has no credential is not refused, and whoever has one that is not
 * good is.
 *
 * @throws SignalboxError as `authenticate` does, but for who has no credential; PERMISSION_DENIED without the scope `agents.read`.
 */
export async function askedBy(authenticator: Authenticator, credentials: Credentials): Promise<AskedBy> {
  let principal: Principal;
  try {
    principal = await authenticator.authenticate(credentials, { beNobody: true });
  } catch (error) {
    if (error instanceof SignalboxError && error.reason === "UNAUTHENTICATED") {
      return { caller: undefined, isPublic: true };
    }
    throw error;
  }
  if (!holds(principal, SCOPE)) throw scopeMissing(SCOPE);
  const { workspaceId } = principal;
  return { caller: { principal, workspaceId }, isPublic: principal.authentication === "anonymous" };
}
