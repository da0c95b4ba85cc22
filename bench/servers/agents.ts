/** What the agents of the benchmarks do. Each is a function in the server's process: what is measured is the router. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type StreamResponse, StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** Answers as agents do: it takes the task up, shows an artifact, and completes. */
export async function* scribe(): AsyncGenerator<StreamResponse> {
  const say = speaker();
  yield say.takesUp();
  yield say.chunk("What is asked for, in one sentence.");
  yield say.completes();
}

/** The least that a task can be: taken up and completed. With its submission that makes three durable transitions. */
export async function* clerk(): AsyncGenerator<StreamResponse> {
  const say = speaker();
  yield say.takesUp();
  yield say.completes();
}

/** An agent that waits, again and again, until the bench lets it go on. */
export interface Reader {
  handler: () => AsyncGenerator<StreamResponse>;
  /** Lets all that wait go on. */
  goOn(): void;
}

/** Shows one chunk; let go, `chunks` more; let go again, it completes. */
export function reader(chunks: number): Reader {
  let gate = Promise.withResolvers<void>();
  return {
    async *handler() {
      const say = speaker();
      yield say.takesUp();
      yield say.chunk("first", { append: false });
      await gate.promise;
      for (let i = 0; i < chunks; i++) yield say.chunk(`chunk ${i}`, { append: true });
      await gate.promise;
      yield say.completes();
    },
    goOn() {
      gate.resolve();
      gate = Promise.withResolvers();
    },
  };
}

/** What an agent says of one new task of its own. */
function speaker() {
  const taskId = crypto.randomUUID();
  const contextId = crypto.randomUUID();
  const item = (payload: MessageInitShape<typeof StreamResponseSchema>["payload"] & object) =>
    create(StreamResponseSchema, { payload });
  const status = (state: TaskState) => ({ state, timestamp: { seconds: BigInt(Math.floor(Date.now() / 1000)) } });
  return {
    takesUp: () => item({ case: "task", value: { id: taskId, contextId, status: status(TaskState.WORKING) } }),
    chunk: (text: string, { append = false } = {}) => {
      const artifact = { artifactId: "answer", name: "Answer", parts: [{ content: { case: "text", value: text } }] };
      return item({ case: "artifactUpdate", value: { taskId, contextId, artifact: artifact as never, append } });
    },
    completes: () => item({ case: "statusUpdate", value: { taskId, contextId, status: status(TaskState.COMPLETED) } }),
  };
}
