/**
 * Who sees which task, and who may change it. Statements that read tasks say the same in SQL (`ACCESS` of store/task-sql.ts); a test
 * compares the two. Pure.
 */
import { ANONYMOUS, holds, type Principal } from "./principal.ts";

/** What it takes to see, and with `tasks.write` to change, what belongs to others. */
export const ALL_TASKS = "tasks.all";

/** What somebody may do with a task that they see: only look at it, or answer, cancel and add to it as well. */
export type TaskAccess = "read" | "write";

/** For whom tasks are read: its own, and those that are shared with it or with one of its roles. */
export interface Viewer {
  readonly id: string;
  readonly roles: readonly string[];
}

/** Whose a task is, and what it is shared by. */
export interface OwnedTask {
  /** Undefined for one of before: it belongs to whoever nobody knew. */
  readonly owner: string | undefined;
  readonly contextId: string;
}

/** A context that its owner shares with a principal, or with all who have a role. */
export interface Share {
  readonly ownerId: string;
  readonly contextId: string;
  readonly subject: { readonly principalId: string } | { readonly role: string };
  readonly canWrite: boolean;
}

const viewers = new WeakMap<Principal, Viewer | "all">();

/** As whom a principal reads; undefined for who sees every task of the workspace. */
export function viewerOf(principal: Principal): Viewer | undefined {
  let viewer = viewers.get(principal);
  if (viewer === undefined) {
    viewer = holds(principal, ALL_TASKS) ? "all" : { id: principal.id, roles: [...principal.roles].sort() };
    viewers.set(principal, viewer);
  }
  return viewer === "all" ? undefined : viewer;
}

/** The owner of a task acting for itself, where whoever called is not there any more. Roles were its caller's: shares by them do not count. */
export const ownerAsViewer = ({ owner = ANONYMOUS }: { readonly owner?: string | undefined }): Viewer => ({
  id: owner,
  roles: [],
});

/** What a viewer may do with a task; undefined: there is no such task for it. `viewer` undefined: who sees every task. */
export function accessTo(
  viewer: Viewer | undefined,
  { owner, contextId }: OwnedTask,
  shares: readonly Share[],
): TaskAccess | undefined {
  if (!viewer || viewer.id === (owner ?? ANONYMOUS)) return "write";
  const isFor = ({ subject }: Share) =>
    "role" in subject ? viewer.roles.includes(subject.role) : subject.principalId === viewer.id;
  const given = shares.filter((share) => share.ownerId === owner && share.contextId === contextId && isFor(share));
  if (given.length === 0) return undefined;
  return given.some(({ canWrite }) => canWrite) ? "write" : "read";
}
