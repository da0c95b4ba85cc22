/** Recording one change in the logs of several workspaces. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import type { Recording } from "./audit-trail.ts";
import type { Schema } from "./schema.ts";

/** What records a change in the log of a workspace. */
export type RecordingIn = (workspaceId: string) => Recording;

/**
 * Records a change in each of these workspaces, once. Who adds to a log holds it until its transaction ends, so all take them in one
 * order.
 */
export async function recordIn(
  tx: Kysely<Schema>,
  workspaceIds: Iterable<string>,
  record: RecordingIn,
  facts?: JsonObject,
): Promise<void> {
  for (const workspaceId of [...new Set(workspaceIds)].sort()) await record(workspaceId)(tx, facts);
}
