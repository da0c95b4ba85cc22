/** The whole server, with one agent in its process. Arguments: the PostgreSQL database to use; none for PGlite. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { startTestApp } from "../../test/e2e/running-app.ts";
import { announce } from "./announce.ts";

/** Answers as agents do: it takes the task up, shows an artifact, and completes. */
async function* scribe(): AsyncGenerator<StreamResponse> {
  const taskId = crypto.randomUUID();
  const contextId = crypto.randomUUID();
  const item = (payload: MessageInitShape<typeof StreamResponseSchema>["payload"] & object) =>
    create(StreamResponseSchema, { payload });
  const timestamp = { seconds: BigInt(Math.floor(Date.now() / 1000)) };
  const parts = [{ content: { case: "text", value: "What is asked for, in one sentence." } } as const];
  yield item({ case: "task", value: { id: taskId, contextId, status: { state: TaskState.WORKING, timestamp } } });
  yield item({
    case: "artifactUpdate",
    value: { taskId, contextId, artifact: { artifactId: "answer", name: "Answer", parts }, lastChunk: true },
  });
  yield item({
    case: "statusUpdate",
    value: { taskId, contextId, status: { state: TaskState.COMPLETED, timestamp } },
  });
}

const [databaseUrl] = process.argv.slice(2);
const app = await startTestApp({
  agents: { scribe },
  ...(databaseUrl !== undefined && { flags: { "database.url": databaseUrl } }),
});
announce({ authority: app.grpcAddress, httpUrl: app.httpUrl }, () => app.stop());
