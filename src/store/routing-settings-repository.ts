/** How each workspace routes. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type RoutingSettings, RoutingSettingsSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";

/** What was said of a workspace, and how many times by now. */
export interface StoredRoutingSettings {
  readonly said: RoutingSettings;
  /** From 1 on. */
  readonly revision: number;
  readonly updatedAt: Date;
}

export interface RoutingSettingsRepository {
  /** Undefined as long as nothing was said. */
  get(workspaceId: string): Promise<StoredRoutingSettings | undefined>;
  /** Stores what is said now in the place of `revision`, 0 for none, and makes it the next one; false when it was not the last. */
  put(workspaceId: string, said: RoutingSettings, revision: number, now: Date, record?: Recording): Promise<boolean>;
}

export function createRoutingSettingsRepository({ kysely }: Database): RoutingSettingsRepository {
  return {
    async get(workspaceId) {
      const row = await kysely
        .selectFrom("routing_settings")
        .select(["body", "revision", "updated_at"])
        .where("workspace_id", "=", workspaceId)
        .executeTakeFirst();
      if (!row) return undefined;
      return {
        said: fromBinary(RoutingSettingsSchema, row.body),
        revision: row.revision,
        updatedAt: row.updated_at,
      };
    },

    put(workspaceId, said, revision, now, record) {
      const changed = { body: toBinary(RoutingSettingsSchema, said), revision: revision + 1, updated_at: now };
      return kysely.transaction().execute(async (tx) => {
        const stored =
          revision > 0
            ? await tx
                .updateTable("routing_settings")
                .set(changed)
                .where("workspace_id", "=", workspaceId)
                .where("revision", "=", revision)
                .returning("revision")
                .executeTakeFirst()
            : await tx
                .insertInto("routing_settings")
                .values({ workspace_id: workspaceId, ...changed })
                .onConflict((conflict) => conflict.doNothing())
                .returning("revision")
                .executeTakeFirst();
        if (stored) await record?.(tx, { revision: stored.revision });
        return stored !== undefined;
      });
    },
  };
}
