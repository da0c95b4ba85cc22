/** Who may see the pages of operations: `/metrics` and `/health/deep`. */
import type { Config } from "../config/settings.ts";
import { type SignalboxError, scopeMissing } from "../domain/errors.ts";
import { notTheRouter } from "../domain/identity/errors.ts";
import { HOME_WORKSPACE, holds, type Principal } from "../domain/identity/principal.ts";
import type { Refusals } from "../services/audit-refusals.ts";
import type { Authenticator } from "../services/identity/authenticator.ts";
import type { Credentials } from "../services/identity/credentials.ts";

const SCOPE = "metrics.read";

/** Throws SignalboxError for whoever may not, once that is recorded as other refusals are. */
export function operatorGate(
  { auth }: Config,
  { authenticator, refusals }: { authenticator: Authenticator; refusals: Pick<Refusals, "record"> },
): (credentials: Credentials, path: string) => Promise<void> | void {
  if (auth.openMetrics) return () => {};
  return async (credentials, path) => {
    let principal: Principal | undefined;
    try {
      principal = await authenticator.authenticate(credentials);
      if (!holds(principal, SCOPE)) throw scopeMissing(SCOPE);
      // They show what all workspaces do.
      if (principal.workspaceId !== HOME_WORKSPACE) throw notTheRouter();
    } catch (error) {
      const caller = principal && { workspaceId: principal.workspaceId, principalId: principal.id };
      await refusals.record({ caller, rpc: path.slice(1), error: error as SignalboxError });
      throw error;
    }
  };
}
