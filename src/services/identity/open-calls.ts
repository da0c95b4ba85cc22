/** The calls that are under way, by workspace: one that is suspended has them ended. */
import { HOME_WORKSPACE } from "../../domain/identity/principal.ts";
import type { Abortable } from "../abort-group.ts";

export interface OpenCalls {
  add(workspaceId: string, call: Abortable): void;
  delete(workspaceId: string, call: Abortable): void;
  /** Workspaces that have any. That of who runs the router cannot be suspended, and is not among them. */
  workspaces(): Iterable<string>;
  /** Ends all of a workspace. */
  abort(workspaceId: string, reason: unknown): void;
}

export function createOpenCalls(): OpenCalls {
  const byWorkspace = new Map<string, Set<Abortable>>();
  return {
    add(workspaceId, call) {
      if (workspaceId === HOME_WORKSPACE) return;
      const calls = byWorkspace.get(workspaceId);
      if (calls) calls.add(call);
      else byWorkspace.set(workspaceId, new Set([call]));
    },
    delete(workspaceId, call) {
      const calls = byWorkspace.get(workspaceId);
      if (calls?.delete(call) && calls.size === 0) byWorkspace.delete(workspaceId);
    },
    workspaces: () => byWorkspace.keys(),
    abort(workspaceId, reason) {
      const calls = [...(byWorkspace.get(workspaceId) ?? [])];
      byWorkspace.delete(workspaceId);
      for (const call of calls) call.abort(reason);
    },
  };
}
