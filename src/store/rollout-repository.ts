/** How traffic is steered, for each workspace and its capabilities. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Rollout, RolloutSchema } from "../../gen/signalbox/v1/rollout_pb.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";

export interface RolloutRecord {
  /** Empty for the workspace's own. */
  capabilityId: string;
  /** As it was given; without its etag and its time. */
  given: Rollout;
  /** Grows with every change, from 1. */
  revision: number;
  updatedAt: Date;
}

export interface RolloutRepository {
  /** All of a workspace, its own first, then by capability. */
  list(workspaceId: string): Promise<RolloutRecord[]>;
  /** The one of a capability, or of the workspace, where the id is empty; undefined when it was never changed. */
  get(workspaceId: string, capabilityId: string): Promise<RolloutRecord | undefined>;
  /**
   * Changes one to what `change` makes of it, which sees all of the workspace as they stand, and may throw. Nobody else changes
   * one of the workspace meanwhile.
   */
  update(
    workspaceId: string,
    capabilityId: string,
    change: (current: RolloutRecord | undefined, all: readonly RolloutRecord[]) => Rollout,
    now: Date,
    record?: Recording,
  ): Promise<RolloutRecord>;
  /** Forgets one. False when there is none. */
  remove(workspaceId: string, capabilityId: string, record?: Recording): Promise<boolean>;
}

export function createRolloutRepository({ kysely }: Database): RolloutRepository {
  const read = (from: Pick<Database["kysely"], "selectFrom">, workspaceId: string) =>
    from.selectFrom("rollouts").selectAll().where("workspace_id", "=", workspaceId);

  return {
    async list(workspaceId) {
      return (await read(kysely, workspaceId).orderBy("capability_id").execute()).map(recordOf);
    },

    async get(workspaceId, capabilityId) {
      const row = await read(kysely, workspaceId).where("capability_id", "=", capabilityId).executeTakeFirst();
      return row && recordOf(row);
    },

    update(workspaceId, capabilityId, change, now, record) {
      return kysely.transaction().execute(async (tx) => {
        // Chains are checked against each other, also those that are not there yet: the workspace's row stands for all.
        await tx
          .selectFrom("workspaces")
          .select("workspace_id")
          .where("workspace_id", "=", workspaceId)
          .forNoKeyUpdate()
          .execute();
        const all = (await read(tx, workspaceId).orderBy("capability_id").execute()).map(recordOf);
        const current = all.find((one) => one.capabilityId === capabilityId);
        const given = change(current, all);
        const revision = (current?.revision ?? 0) + 1;
        const body = toBinary(RolloutSchema, { ...given, capabilityId });
        await tx
          .insertInto("rollouts")
          .values({ workspace_id: workspaceId, capability_id: capabilityId, body, revision, updated_at: now })
          .onConflict((conflict) =>
            conflict.columns(["workspace_id", "capability_id"]).doUpdateSet({ body, revision, updated_at: now }),
          )
          .execute();
        await record?.(tx, { revision });
        return recordOf({ capability_id: capabilityId, body, revision, updated_at: now });
      });
    },

    remove: (workspaceId, capabilityId, record) =>
      kysely.transaction().execute(async (tx) => {
        const { numDeletedRows } = await tx
          .deleteFrom("rollouts")
          .where("workspace_id", "=", workspaceId)
          .where("capability_id", "=", capabilityId)
          .executeTakeFirst();
        if (numDeletedRows === 0n) return false;
        await record?.(tx);
        return true;
      }),
  };
}

function recordOf(row: { capability_id: string; body: Uint8Array; revision: number; updated_at: Date }): RolloutRecord {
  return {
    capabilityId: row.capability_id,
    given: fromBinary(RolloutSchema, row.body),
    revision: row.revision,
    updatedAt: row.updated_at,
  };
}
