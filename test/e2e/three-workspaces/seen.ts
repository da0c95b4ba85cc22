/** What the people of each workspace were told: ids that others may try. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Pool } from "./calls.ts";

/** Latest ids of each kind that are kept. */
const MOST = 400;

/** By the names of fields. */
const FIELDS: Readonly<Record<string, Pool>> = {
  taskId: "task",
  contextId: "context",
  approvalId: "approval",
  keyId: "key",
  quoteId: "quote",
  bestQuoteId: "quote",
  nextPageToken: "page",
  hash: "hash",
};

export class Seen {
  readonly #pools = new Map<Pool, Map<string, Set<string>>>();

  add(pool: Pool, id: string, ...workspaceIds: string[]): void {
    if (id === "") return;
    const ids = this.#pools.get(pool) ?? new Map<string, Set<string>>();
    this.#pools.set(pool, ids);
    const owners = ids.get(id) ?? new Set();
    for (const workspaceId of workspaceIds) owners.add(workspaceId);
    // The latest are the last.
    ids.delete(id);
    ids.set(id, owners);
    if (ids.size > MOST) ids.delete(ids.keys().next().value!);
  }

  /** All ids of a kind, with the workspaces that were told of them. */
  all(pool: Pool): [id: string, owners: ReadonlySet<string>][] {
    return [...(this.#pools.get(pool) ?? [])];
  }

  /** Takes all ids out of what a workspace was answered. */
  learn(workspaceId: string, answer: JsonValue): void {
    if (Array.isArray(answer)) for (const item of answer) this.learn(workspaceId, item);
    if (typeof answer !== "object" || answer === null || Array.isArray(answer)) return;
    this.#learnIds(workspaceId, answer);
    for (const value of Object.values(answer)) this.learn(workspaceId, value);
  }

  #learnIds(workspaceId: string, answer: JsonObject): void {
    const text = (name: string) => (typeof answer[name] === "string" ? (answer[name] as string) : "");
    for (const [name, pool] of Object.entries(FIELDS)) this.add(pool, text(name), workspaceId);
    if ("status" in answer) this.add("task", text("id"), workspaceId);
    const state = (answer.status as JsonObject | undefined)?.state;
    if (state === "TASK_STATE_INPUT_REQUIRED") this.add("waiting", text("id") || text("taskId"), workspaceId);
    if ("url" in answer && text("taskId") !== "" && text("id") !== "")
      this.add("config", `${text("taskId")}/${text("id")}`, workspaceId);
    // Whoever is a member may be one of several workspaces.
    if (text("principalId").startsWith("jwt/")) this.add("member", text("principalId"), workspaceId);
    if ("ownerId" in answer) this.add("shared", text("contextId"), workspaceId);
    if (text("state") === "GRANT_STATE_PENDING")
      this.add("offered", text("grantId"), text("providerWorkspaceId"), text("consumerWorkspaceId"));
    // Both sides are told of a grant.
    if (text("grantId") !== "")
      this.add("grant", text("grantId"), workspaceId, text("providerWorkspaceId"), text("consumerWorkspaceId"));
  }
}

/** An id of the same kind and look as that one, which nobody has. */
export function nobodys(id: string): string {
  if (/-[abc]$/.test(id)) return `${id.slice(0, -1)}z`;
  if (id.includes("/")) return id.split("/").map(nobodys).join("/");
  return `${id.slice(0, -8)}00000000`;
}
