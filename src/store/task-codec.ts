/** Rows of the task tables to domain values and back. */
import { type DescMessage, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StreamResponseSchema, type TaskState, type TaskStatus, TaskStatusSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { BudgetHold, HoldUnit } from "../domain/budget/hold.ts";
import { encode } from "../domain/encode.ts";
import {
  type Delivery,
  type NewUpdate,
  PRIORITIES,
  type TaskHeader,
  type TaskUpdate,
  type UpdateKind,
} from "../domain/task-log.ts";
import type { EngineState } from "../domain/task-state.ts";
import type { Row } from "./database.ts";
import { UnfitValueError } from "./pg-arrays.ts";

const KIND_NUMBER: Record<UpdateKind, number> = {
  message: 1,
  status: 2,
  artifact: 3,
  reply: 4,
  metadata: 5,
  transition: 6,
};
const KIND_NAME: ReadonlyMap<number, UpdateKind> = new Map(
  Object.entries(KIND_NUMBER).map(([name, number]) => [number, name as UpdateKind]),
);

/** What PostgreSQL text cannot hold. */
const NUL = /\0/g;

export const kindNumber = (kind: UpdateKind): number => KIND_NUMBER[kind];

/** The bytes of a message. One that cannot be written, as a function may give that is an agent, is its caller's fault alone. */
export function written<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): Uint8Array {
  try {
    return encode(schema, message);
  } catch (cause) {
    throw new UnfitValueError(`a ${schema.name} cannot be written: ${(cause as Error).message}`, { cause });
  }
}

/** Undefined for a number that only a newer version knows. */
export const kindName = (number: number): UpdateKind | undefined => KIND_NAME.get(number);

export const encodeBody = (update: NewUpdate): Uint8Array => written(StreamResponseSchema, update.body);

export const encodeCause = (update: NewUpdate): string | null => update.cause?.replace(NUL, "") ?? null;

/** Null when it says nothing but its state and that it is of this time, which have columns of their own. */
export function encodeStatus(status: TaskStatus, at: Date): Uint8Array | null {
  const { message, timestamp } = status;
  const brief = !message && !status.$unknown && timestamp && !timestamp.$unknown && isTime(timestamp, at);
  return brief ? null : written(TaskStatusSchema, status);
}

const isTime = ({ seconds, nanos }: Timestamp, at: Date): boolean =>
  nanos % NANOS_PER_MS === 0 && Number(seconds) * 1000 + nanos / NANOS_PER_MS === at.getTime();

const NANOS_PER_MS = 1_000_000;

/** Of a row with the columns `status`, `a2a_state` and `status_at`. */
export function decodeStatus(row: Row): TaskStatus {
  if (row.status !== null) return fromBinary(TaskStatusSchema, row.status as Uint8Array);
  const timestamp = timestampFromDate(row.status_at as Date);
  return { $typeName: "lf.a2a.v1.TaskStatus", state: row.a2a_state as TaskState, timestamp };
}

export function decodeUpdate(row: Row): TaskUpdate {
  const kind = KIND_NAME.get(row.kind as number);
  if (!kind) throw new Error(`task_updates holds a row of unknown kind ${row.kind}`);
  return {
    seq: row.seq as number,
    kind,
    body: fromBinary(StreamResponseSchema, row.body as Uint8Array),
    ...(typeof row.state === "number" && { state: row.state as EngineState }),
    ...(typeof row.cause === "string" && { cause: row.cause }),
  };
}

/** JSON, or nothing when there is nothing to say. */
export function encodeDelivery(delivery: Delivery): Uint8Array | null {
  return Object.keys(delivery).length === 0 ? null : Buffer.from(JSON.stringify(delivery));
}

const decodeDelivery = (bytes: Uint8Array | null): Delivery =>
  bytes ? (JSON.parse(Buffer.from(bytes).toString()) as Delivery) : {};

/** A hold as it stands with its task: short names, because tasks are many. The append statement reads them too. */
interface StoredHold {
  k: string;
  t: "M" | "T" | "Q";
  u: number;
  r: string;
  d: number;
  w?: number;
  f?: true;
  /** It was drawn from what the task's parent held: nothing was reserved for it. */
  p?: true;
}

const UNIT_LETTERS = { MONEY: "M", TASKS: "T", IN_FLIGHT: "Q" } as const satisfies Record<HoldUnit, StoredHold["t"]>;

/** What tasks that are alike hold is one array: it is written once. */
const holdTexts = new WeakMap<readonly BudgetHold[], string>();

/** JSON, or nothing when there is nothing. `drawn`: those that were drawn from the parent's, by their keys. */
export function encodeHolds(holds: readonly BudgetHold[] | undefined, drawn?: ReadonlySet<string>): string | null {
  if (holds === undefined || holds.length === 0) return null;
  if (drawn !== undefined && drawn.size > 0) return holdsText(holds, drawn);
  let text = holdTexts.get(holds);
  if (text === undefined) {
    text = holdsText(holds);
    holdTexts.set(holds, text);
  }
  return text;
}

function holdsText(holds: readonly BudgetHold[], ofParent?: ReadonlySet<string>): string {
  const stored = holds.map(
    ({ key, unit, units, replicaId, declared, drawn, chargesFailure }): StoredHold => ({
      k: key,
      t: UNIT_LETTERS[unit],
      u: units,
      r: replicaId,
      d: declared,
      ...(drawn > 0 && { w: drawn }),
      ...(chargesFailure && { f: true as const }),
      ...(ofParent?.has(key) && { p: true as const }),
    }),
  );
  return JSON.stringify(stored);
}

export const decodeHolds = (stored: unknown): BudgetHold[] =>
  (stored as StoredHold[]).map(({ k, t, u, r, d, w = 0, f = false }) => ({
    key: k,
    unit: t === "M" ? "MONEY" : t === "Q" ? "IN_FLIGHT" : "TASKS",
    units: u,
    replicaId: r,
    declared: d,
    drawn: w,
    chargesFailure: f,
  }));

export function decodeHeader(row: Row): TaskHeader {
  return {
    workspaceId: row.workspace_id as string,
    taskId: row.task_id as string,
    contextId: row.context_id as string,
    owner: (row.principal_id as string | null) ?? undefined,
    agentId: row.agent_id as string,
    capabilityId: (row.capability_id as string | null) ?? undefined,
    ...(row.earlier_agent_ids !== null && {
      origin: {
        agentIds: row.earlier_agent_ids as readonly string[],
        capabilityId: (row.given_capability_id as string | null) ?? undefined,
      },
    }),
    createdAt: row.created_at as Date,
    disclosed: row.disclosed as boolean,
    hasPush: row.has_push as boolean,
    upstreamTaskId: (row.upstream_task_id as string | null) ?? undefined,
    upstreamContextId: (row.upstream_context_id as string | null) ?? undefined,
    priority: PRIORITIES[row.priority as number] ?? "NORMAL",
    fence: row.fence as number,
    leaseOwner: (row.lease_owner as string | null) ?? undefined,
    attempt: row.attempt as number,
    deadlineAt: (row.deadline_at as Date | null) ?? undefined,
    ...(row.holds !== null && { holds: decodeHolds(row.holds) }),
    ...(row.parent_task_id !== null && {
      parent: {
        taskId: row.parent_task_id as string,
        agentId: row.parent_agent_id as string,
        depth: row.delegation_depth as number,
      },
    }),
    delivery: decodeDelivery(row.delivery as Uint8Array | null),
  };
}
