/** Rows of the task tables to domain values and back. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StreamResponseSchema, type TaskStatus, TaskStatusSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { NewUpdate, TaskHeader, TaskUpdate, UpdateKind } from "../domain/task-log.ts";
import type { Row } from "./database.ts";

const KIND_NUMBER: Record<UpdateKind, number> = { message: 1, status: 2, artifact: 3, reply: 4, metadata: 5 };
const KIND_NAME: ReadonlyMap<number, UpdateKind> = new Map(
  Object.entries(KIND_NUMBER).map(([name, number]) => [number, name as UpdateKind]),
);

/** What PostgreSQL text cannot hold. */
const NUL = /\0/g;

export const kindNumber = (kind: UpdateKind): number => KIND_NUMBER[kind];

export const encodeBody = (update: NewUpdate): Uint8Array => toBinary(StreamResponseSchema, update.body);

export const encodeCause = (update: NewUpdate): string | null => update.cause?.replace(NUL, "") ?? null;

export const encodeStatus = (status: TaskStatus): Uint8Array => toBinary(TaskStatusSchema, status);

export const decodeStatus = (bytes: Uint8Array | null): TaskStatus =>
  bytes ? fromBinary(TaskStatusSchema, bytes) : create(TaskStatusSchema);

export function decodeUpdate(row: Row): TaskUpdate {
  const kind = KIND_NAME.get(row.kind as number);
  if (!kind) throw new Error(`task_updates holds a row of unknown kind ${row.kind}`);
  return {
    seq: row.seq as number,
    kind,
    body: fromBinary(StreamResponseSchema, row.body as Uint8Array),
    ...(typeof row.cause === "string" && { cause: row.cause }),
  };
}

export function decodeHeader(row: Row): TaskHeader {
  return {
    workspaceId: row.workspace_id as string,
    taskId: row.task_id as string,
    contextId: row.context_id as string,
    agentId: row.agent_id as string,
    createdAt: row.created_at as Date,
    disclosed: row.disclosed as boolean,
    hasPush: row.has_push as boolean,
    upstreamTaskId: (row.upstream_task_id as string | null) ?? undefined,
    upstreamContextId: (row.upstream_context_id as string | null) ?? undefined,
  };
}
