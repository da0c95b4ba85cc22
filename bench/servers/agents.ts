/** What the agents of the benchmarks do. Each is a function in the server's process: what is measured is the router. */
import { EventEmitter, on } from "node:events";
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

/** An agent that waits for the bench. One task at a time. */
export interface Reader {
  handler: () => AsyncGenerator<StreamResponse>;
  /** Lets the task go on that waits, or the next one that will. */
  goOn(): void;
}

/** Shows one chunk; let go, `chunks` more; let go again, it completes. */
export function reader(chunks: number): Reader {
  // Kept where nobody waits yet: a task may be let go before it comes to its pause.
  const pauses = new EventEmitter();
  const permits = on(pauses, "permit");
  return {
    async *handler() {
      const say = speaker();
      yield say.takesUp();
      yield say.chunk("first");
      await permits.next();
      for (let i = 0; i < chunks; i++) yield say.chunk(`chunk ${i}`, { append: true });
      await permits.next();
      yield say.completes();
    },
    goOn: () => void pauses.emit("permit"),
  };
}

/** What some tasks of a chorus are to say. */
export interface Order {
  /** How many tasks were there before them. */
  before: number;
  tasks: number;
  chunks: number;
}

/** An agent whose tasks wait until the bench has them speak. Each chunk begins with the time at which it was said. */
export interface Chorus {
  handler: () => AsyncGenerator<StreamResponse>;
  /** They say so many chunks more, as fast as they are taken. Throws where there are fewer tasks. */
  say(order: Order): void;
}

export function chorus(): Chorus {
  const singers: Singer[] = [];
  return {
    async *handler() {
      const say = speaker();
      const singer = new Singer();
      singers.push(singer);
      yield say.takesUp();
      for (let append = false; ; append = true) {
        await singer.turn();
        yield say.chunk(`${process.hrtime.bigint()} and a few words more`, { append });
      }
    },
    say({ before, tasks, chunks }) {
      const called = singers.slice(before, before + tasks);
      if (called.length < tasks) throw new Error(`of ${tasks} tasks that are to speak ${called.length} are there`);
      for (const singer of called) singer.allow(chunks);
    },
  };
}

/** One task of a chorus. */
class Singer {
  #allowed = 0;
  #wake: (() => void) | undefined;

  allow(chunks: number): void {
    this.#allowed += chunks;
    this.#wake?.();
  }

  async turn(): Promise<void> {
    while (this.#allowed === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#allowed -= 1;
  }
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
