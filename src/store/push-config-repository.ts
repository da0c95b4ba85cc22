/** Push notification configs, keyed by task and id: ids repeat over tasks. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type TaskPushNotificationConfig, TaskPushNotificationConfigSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Database } from "./database.ts";

export interface PushConfigRepository {
  /** Stores a config under its task and id, in place of one with that id. False when the task has `most` others. */
  put(workspaceId: string, config: TaskPushNotificationConfig, now: Date, most: number): Promise<boolean>;
  get(workspaceId: string, taskId: string, id: string): Promise<TaskPushNotificationConfig | undefined>;
  /** Configs of a task by id, after `afterId`. */
  list(
    workspaceId: string,
    taskId: string,
    page: { afterId?: string; limit: number },
  ): Promise<TaskPushNotificationConfig[]>;
  /** Removes a config; nothing happens when there is none. */
  remove(workspaceId: string, taskId: string, id: string): Promise<void>;
}

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
    async put(workspaceId, config, now, most) {
      const { taskId, id } = config;
      const body = toBinary(TaskPushNotificationConfigSchema, config);
      return kysely.transaction().execute(async (tx) => {
        // Also takes the task's row, so that puts of one task are counted one after another.
        await tx
          .updateTable("tasks")
          .set({ has_push: true })
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .execute();
        const { others } = await tx
          .selectFrom("push_configs")
          .select((eb) => eb.fn.countAll<number>().as("others"))
          .where("workspace_id", "=", workspaceId)
          .where("task_id", "=", taskId)
          .where("config_id", "!=", id)
          .executeTakeFirstOrThrow();
        if (others >= most) return false;
        await tx
          .insertInto("push_configs")
          .values({ workspace_id: workspaceId, task_id: taskId, config_id: id, body, created_at: now })
          .onConflict((conflict) => conflict.columns(["workspace_id", "task_id", "config_id"]).doUpdateSet({ body }))
          .execute();
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

    async remove(workspaceId, taskId, id) {
      await kysely
        .deleteFrom("push_configs")
        .where("workspace_id", "=", workspaceId)
        .where("task_id", "=", taskId)
        .where("config_id", "=", id)
        .execute();
    },
  };
}
