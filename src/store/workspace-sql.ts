/** What statements over all workspaces say of those that are suspended. */

/** Ids of workspaces from which nothing is to be taken up; a subquery. */
export const SUSPENDED = "select workspace_id from workspaces where suspended_at is not null";
