/** Databases with so many tasks in them, and what is asked of the server on each. */
import { create, type DescMessage, type DescMethodUnary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import pg from "pg";
import { pino } from "pino";
import { A2AService, GetTaskRequestSchema, ListTasksRequestSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { migrate } from "../../src/store/migrate.ts";
import { openPostgres } from "../../src/store/postgres.ts";
import { storeManyTasks } from "../../test/fixtures/many-tasks.ts";
import { administer } from "../../test/store/backends.ts";
import { A2A_VERSION, call, frame, pathOf } from "../lab/grpc.ts";
import type { Lab } from "../lab/lab.ts";
import { CONNECTIONS, type LoadRequest } from "../lab/load-request.ts";
import type { ServerProcess } from "../lab/server-process.ts";
import { type A2AAddress, grpcSend } from "../tasks/send.ts";

const AGENT = "clerk";
const PAGE = 10;

/** What is asked for, by its name. */
export const KINDS = [
  "submit",
  "get",
  "list, first page",
  "list, deep page",
  "list, of a rare status",
  "list, of one context",
] as const;
export type Kind = (typeof KINDS)[number];

export interface Grown {
  readonly count: number;
  readonly databaseUrl: string;
  readonly server: ServerProcess<A2AAddress>;
  readonly requests: Readonly<Record<Kind, LoadRequest>>;
}

/** Stores the tasks, lets PostgreSQL know of them, and starts a server on them. */
export async function grow(count: number, lab: Lab, stack: AsyncDisposableStack): Promise<Grown> {
  const databaseUrl = await lab.database.createDatabase();
  const log = pino({ level: "silent" });
  const db = openPostgres({ url: databaseUrl, poolSize: 1, log });
  try {
    await migrate(db, log);
    await storeManyTasks(db, { count, agentId: AGENT });
  } finally {
    await db.close();
  }
  await administer(databaseUrl, "vacuum analyze tasks");
  await administer(databaseUrl, "vacuum analyze task_updates");
  await administer(databaseUrl, "checkpoint");
  const server = stack.use(await lab.start<A2AAddress>("signalbox", AGENT, databaseUrl));
  return { count, databaseUrl, server, requests: await requestsTo(server.address, databaseUrl, count) };
}

async function requestsTo(address: A2AAddress, databaseUrl: string, count: number): Promise<Record<Kind, LoadRequest>> {
  const asking = (
    method: DescMethodUnary<DescMessage, DescMessage>,
    messages: MessageShape<DescMessage>[],
  ): LoadRequest => ({
    authority: address.authority,
    protocol: "grpc",
    path: pathOf(method),
    headers: A2A_VERSION,
    bodies: messages.map((message) => frame(toBinary(method.input, message))),
  });
  const page = { pageSize: PAGE, historyLength: 0 };
  const listing = (filter: Parameters<typeof create<typeof ListTasksRequestSchema>>[1]) =>
    asking(A2AService.method.listTasks, [create(ListTasksRequestSchema, { ...page, ...filter })]);
  const first = await call(address, A2AService.method.listTasks, create(ListTasksRequestSchema, page));
  const deep = await taskAt(databaseUrl, Math.floor(count * 0.9));
  const among = await Promise.all(
    Array.from({ length: CONNECTIONS }, (_, i) => taskAt(databaseUrl, Math.floor((count * i) / CONNECTIONS))),
  );
  return {
    submit: await grpcSend(address),
    get: asking(
      A2AService.method.getTask,
      among.map(({ task_id }) => create(GetTaskRequestSchema, { id: task_id })),
    ),
    "list, first page": listing({}),
    "list, deep page": listing({ pageToken: tokenAt(first.nextPageToken, deep) }),
    "list, of a rare status": listing({ status: TaskState.REJECTED }),
    "list, of one context": listing({ contextId: deep.context_id }),
  };
}

interface Place {
  task_id: string;
  context_id: string;
  status_at: Date;
}

/** The task at a place of the list, from 0 on. */
async function taskAt(databaseUrl: string, place: number): Promise<Place> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  try {
    const { rows } = await client.query<Place>(
      `select task_id, context_id, status_at from tasks where workspace_id = 'default' and disclosed
       order by status_at desc, task_id desc offset $1 limit 1`,
      [place],
    );
    return rows[0]!;
  } finally {
    await client.end();
  }
}

/** As a walk to that place would have been given, from the token of another page of the same list. */
function tokenAt(token: string, { task_id, status_at }: Place): string {
  const [fingerprint] = Buffer.from(token, "base64url").toString().split(".");
  return Buffer.from(`${fingerprint}.${status_at.getTime()}.${task_id}`).toString("base64url");
}
