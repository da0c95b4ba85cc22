/** Push notification configs, keyed by task and id: ids repeat over tasks. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { sql } from "kysely";
import { type TaskPushNotificationConfig, TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { taskNotFound } from "../domain/errors.ts";
import { EngineState } from "../domain/task-state.ts";
import type { Recording } from "./audit-trail.ts";
import type { Database } from "./database.ts";
import { AT_DEADLINE } from "./task-sql.ts";

/**
 * What a new config gets.
 * - `start`: everything that followed the message with which the task began.
 * - `now`: what is committed after it is stored.
 */
export type PushFrom = "start" | "now";

export interface PutOptions {
  now: Date;
  /** How many configs a task may have. */
  most: number;
  from: PushFrom;
  /** From when on its task, which was held back until it is stored, may be taken. */
  release?: HeldFor | undefined;
  record?: Recording;
}

/** What a task that is held back waits for: a replica, or its agent. */
export type HeldFor = "replica" | "at-agent";

export interface PushConfigRepository {
  /**
   * Stores a config under its task and id. One with that id is replaced: what it had yet to get, and its failures, are
   * forgotten. False when the task has as many others as it may have. Throws TaskNotFound for a task that was removed.
   */
  put(workspaceId: string, config: TaskPushNotificationConfig, options: PutOptions): Promise<boolean>;
  get(workspaceId: string, taskId: string, id: string): Promise<TaskPushNotificationConfig | undefined>;
  /** Configs of a task by id, after `afterId`. */
  list(
    workspaceId: string,
    taskId: string,
    page: { afterId?: string; limit: number },
  ): Promise<TaskPushNotificationConfig[]>;
  /** Removes a config; nothing happens when there is none. */
  remove(workspaceId: string, taskId: string, id: string, record?: Recording): Promise<void>;
}

const released = (heldFor: HeldFor): string => {
  const due = "least(date_trunc('milliseconds', statement_timestamp()), deadline_at)";
  const wakeAt = heldFor === "replica" ? due : AT_DEADLINE("deadline_at");
  return `case when state = ${EngineState.QUEUED} and lease_owner is null then ${wakeAt} else wake_at end`;
};

export function createPushConfigRepository(db: Database): PushConfigRepository {
  const { kysely } = db;
  const ofTask = (workspaceId: string, taskId: string) =>
    kysely
      .selectFrom("push_configs")
      .select("body")
      .where("workspace_id", "=", workspaceId)
      .where("task_id", "=", taskId);
  const decode = (row: { body: Uint8Array }) => fromBinary(TaskPushNotificationConfigSchema, row.body);

  return {
    async put(workspaceId, config, { now, most, from, release, record }) {
      const { taskId, id } = config;
      const body = toBinary(TaskPushNotificationConfigSchema, config);
      return kysely.transaction().execute(async (tx) => {
        // Takes the task's row: puts of one task are counted one after another, and no append commits meanwhile. What
        // follows `last_seq` is committed after this, so the outbox reads it when the config is there.
        const { last_seq: reach } = await tx
          .updateTable("tasks")
          .set({ has_push: true, ...(release && { wake_at: sql.raw<Date>(released(release)) }) })
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .returning("last_seq")
          .executeTakeFirstOrThrow(() => taskNotFound(taskId));
        const { others } = await tx
          .selectFrom("push_configs")
          .select((eb) => eb.fn.countAll<number>().as("others"))
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .where("config_id", "!=", id)
          .executeTakeFirstOrThrow();
        if (others >= most) return false;
        const posted = from === "start" ? Math.min(1, reach) : reach;
        const fresh = {
          body,
          posted,
          reach,
          tries: 0,
          next_try_at: posted < reach ? sql<Date>`clock_timestamp()` : null,
          given_up_at: null,
          claim: sql<number>`nextval('push_claims')`,
          claimed_by: null,
        };
        await tx
          .insertInto("push_configs")
          .values({ workspace_id: workspaceId, task_id: taskId, config_id: id, created_at: now, ...fresh })
          .onConflict((conflict) => conflict.columns(["workspace_id", "task_id", "config_id"]).doUpdateSet(fresh))
          .execute();
        await record?.(tx);
        return true;
      });
    },

    async get(workspaceId, taskId, id) {
      const row = await ofTask(workspaceId, taskId).where("config_id", "=", id).executeTakeFirst();
      return row && decode(row);
    },

    async list(workspaceId, taskId, { afterId, limit }) {
      const rows = await ofTask(workspaceId, taskId)
        .$if(afterId !== undefined, (q) => q.where("config_id", ">", afterId!))
        .orderBy("config_id")
        .limit(limit)
        .execute();
      return rows.map(decode);
    },

    remove: (workspaceId, taskId, id, record) =>
      kysely.transaction().execute(async (tx) => {
        // In the order in which the removal of a task takes them: the task, its configs, the chain of the audit log.
        await tx
          .selectFrom("tasks")
          .select("task_id")
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .forKeyShare()
          .execute();
        const { numDeletedRows } = await tx
          .deleteFrom("push_configs")
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .where("config_id", "=", id)
          .executeTakeFirst();
        if (numDeletedRows > 0n) await record?.(tx);
      }),
  };
}
