/** Tasks and their logs. Every method takes the workspace first, alone or in its argument. */

import type { Viewer } from "../domain/identity/visibility.ts";
import { type Append, type Appended, appendBatch } from "./append-batch.ts";
import type { Database } from "./database.ts";
import { isDataError, replicaExpired } from "./database-errors.ts";
import { createGroupCommit } from "./group-commit.ts";
import { type NewTask, submitBatch } from "./submit-batch.ts";
import { drawsOnParent, submitWithDraws } from "./submit-children.ts";
import { type ListPage, listTasks, type TaskFilter, type TaskList } from "./task-list-reads.ts";
import {
  findUpstreamContext,
  lastNumbers,
  loadBatch,
  mapTaskIds,
  readHeader,
  readUpdates,
  type StoredTask,
  seenTaskIds,
  type TaskKey,
  type TaskNumber,
  type TaskStanding,
  type UpdatesPage,
  type UpstreamContextQuery,
  type ViewedTask,
} from "./task-reads.ts";

export interface TaskStore {
  /**
   * Resolves, with the id of the replica that stored it, when the task is durable. Making the same submit again changes
   * nothing.
   *
   * @throws SignalboxError REPLICA_EXPIRED when this replica was declared dead, or after that where the key of the task, or what it
   * holds of budgets, was reserved before it: nothing was stored.
   */
  submit(task: NewTask): Promise<string>;
  /**
   * Resolves when the rows are durable; undefined when the task is not as the writer believed, or has ended. An append that
   * is a function is asked for when its batch begins, and again where that is tried in parts: what its writer has to say
   * until then can go with it.
   */
  append(append: Append | (() => Append)): Promise<Appended | undefined>;
  /** A task with its whole log. With a viewer: undefined for one that it does not see, as for one that there is not. */
  load(workspaceId: string, taskId: string, viewer?: Viewer): Promise<StoredTask | undefined>;
  /** The same without its log, the state that it is in, and what the viewer may do with it. */
  header(workspaceId: string, taskId: string, viewer?: Viewer): Promise<TaskStanding | undefined>;
  /** At most `limit` rows of a task's log after number `after`, and about 4 MiB of them. */
  readUpdates(workspaceId: string, taskId: string, after: number, limit: number): Promise<UpdatesPage>;
  /** How far the logs of these tasks have come; a task that there is not is left out. */
  lastNumbers(keys: readonly TaskKey[]): Promise<TaskNumber[]>;
  list(workspaceId: string, filter: TaskFilter, page: ListPage): Promise<TaskList>;
  findUpstreamContext(workspaceId: string, query: UpstreamContextQuery): Promise<string | undefined>;
  /** Those of the ids of tasks that a viewer sees; undefined: who sees all. */
  seenTaskIds(workspaceId: string, ids: readonly string[], viewer: Viewer | undefined): Promise<string[]>;
  mapTaskIds(
    workspaceId: string,
    agentId: string,
    ids: readonly string[],
    direction: "to-upstream" | "from-upstream",
  ): Promise<Map<string, string>>;
  /** Waits for what is under way. */
  close(): Promise<void>;
}

export interface TaskStoreOptions {
  /** Bounds each queue of writes; what comes on top is refused with QUEUE_FULL. */
  maxWaiting: number;
  /** Who writes. Asked for each batch: a replica that was declared dead goes on under another id. */
  replicaId: () => string;
  /** Whether what is written is recorded in the audit log, in the same statement; true unless told. */
  isAudited?: boolean;
}

export function createTaskStore(
  db: Database,
  { maxWaiting, replicaId, isAudited = true }: TaskStoreOptions,
): TaskStore {
  const submits = createGroupCommit<NewTask, string>({
    name: "submit",
    maxBatch: 500,
    maxWaiting,
    isolate: isDataError,
    flush: async (tasks) => {
      const owner = replicaId();
      // What was reserved under the id of before, when this replica was declared dead, is not this one's any more: not its key, nor
      // what it holds of budgets.
      const isInTime = ({ reservedBy = owner, header: { holds = [] }, drawn }: NewTask) =>
        reservedBy === owner &&
        holds.every(({ key, units, replicaId }) => replicaId === owner || units === 0 || drawn?.has(key));
      const inTime = tasks.filter(isInTime);
      if (inTime.some(drawsOnParent)) {
        const answers = await submitWithDraws(db, owner, inTime, isAudited);
        const answerOf = new Map(inTime.map((task, i) => [task, answers[i]!]));
        return tasks.map((task) => answerOf.get(task) ?? replicaExpired());
      }
      if (inTime.length > 0) await submitBatch(db, owner, inTime, isAudited);
      return tasks.map((task) => (isInTime(task) ? owner : replicaExpired()));
    },
  });
  const appends = createGroupCommit<Append | (() => Append), Appended | undefined>({
    name: "append",
    maxBatch: 500,
    maxWaiting,
    isolate: isDataError,
    flush: (batch) =>
      appendBatch(
        db,
        replicaId(),
        batch.map((append) => (typeof append === "function" ? append() : append)),
        isAudited,
      ),
  });
  const loads = createGroupCommit<ViewedTask, StoredTask | undefined>({
    name: "load",
    maxBatch: 200,
    maxWaiting,
    lanes: 2,
    flush: (keys) => loadBatch(db, keys),
  });
  return {
    submit: (task) => submits.submit(task),
    append: (append) => appends.submit(append),
    load: (workspaceId, taskId, viewer) => loads.submit({ workspaceId, taskId, viewer }),
    header: (workspaceId, taskId, viewer) => readHeader(db, { workspaceId, taskId, viewer }),
    readUpdates: (workspaceId, taskId, after, limit) => readUpdates(db, { workspaceId, taskId }, after, limit),
    lastNumbers: (keys) => lastNumbers(db, keys),
    list: (workspaceId, filter, page) => listTasks(db, workspaceId, filter, page),
    findUpstreamContext: (workspaceId, query) => findUpstreamContext(db, workspaceId, query),
    seenTaskIds: (workspaceId, ids, viewer) => seenTaskIds(db, workspaceId, ids, viewer),
    mapTaskIds: (workspaceId, agentId, ids, direction) => mapTaskIds(db, workspaceId, agentId, ids, direction),
    close: async () => {
      await Promise.all([submits.close(), appends.close(), loads.close()]);
    },
  };
}
