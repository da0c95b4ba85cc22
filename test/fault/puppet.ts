/** An agent in this process that says what the test says, when the test says it. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import {
  type Message,
  MessageSchema,
  Role,
  type StreamResponse,
  StreamResponseSchema,
  TaskArtifactUpdateEventSchema,
  TaskSchema,
  TaskState,
  TaskStatusUpdateEventSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHandler } from "../../src/outbound/in-process-channel.ts";
import { createInbox } from "./inbox.ts";

/** What the agent says to one message. Nothing is said until a method is called. */
export interface Turn {
  readonly message: Message;
  /** The agent's own id of its task. */
  readonly taskId: string;
  /** Begins the task; for a message that continues one, nothing needs to. */
  task(state?: TaskState): void;
  /** A chunk of the artifact "story". */
  chunk(text: string): void;
  status(state: TaskState, text?: string): void;
  say(response: StreamResponse["payload"]): void;
  /** Ends the turn; without a final status before it, the stream breaks off. */
  end(): void;
}

export interface Puppet {
  readonly handler: AgentHandler;
  /** The turn of the next message that arrives, or has arrived. */
  turn(): Promise<Turn>;
}

export function createPuppet(): Puppet {
  const turns = createInbox<Turn>();
  return {
    turn: turns.next,
    handler: async function* (message, { task }) {
      let controller!: ReadableStreamDefaultController<StreamResponse>;
      const said = new ReadableStream<StreamResponse>({
        start(given) {
          controller = given;
        },
      });
      const taskId = task?.id ?? randomUUID();
      turns.put(createTurn(message, taskId, task !== undefined, controller));
      yield* said;
    },
  };
}

function createTurn(
  message: Message,
  taskId: string,
  continues: boolean,
  controller: ReadableStreamDefaultController<StreamResponse>,
): Turn {
  const contextId = "puppet";
  let chunks = 0;
  const say = (payload: StreamResponse["payload"]) => controller.enqueue(create(StreamResponseSchema, { payload }));
  return {
    message,
    taskId,
    say,
    task(state = TaskState.WORKING) {
      if (continues) this.status(state);
      else say({ case: "task", value: create(TaskSchema, { id: taskId, contextId, status: { state } }) });
    },
    chunk(text) {
      const artifact = { artifactId: "story", parts: [{ content: { case: "text" as const, value: text } }] };
      const value = create(TaskArtifactUpdateEventSchema, { taskId, contextId, artifact, append: chunks++ > 0 });
      say({ case: "artifactUpdate", value });
    },
    status(state, text) {
      const value = create(TaskStatusUpdateEventSchema, {
        taskId,
        contextId,
        status: { state, ...(text !== undefined && { message: agentMessage(text) }) },
      });
      say({ case: "statusUpdate", value });
    },
    end: () => controller.close(),
  };
}

const agentMessage = (text: string) =>
  create(MessageSchema, {
    messageId: randomUUID(),
    role: Role.AGENT,
    parts: [{ content: { case: "text", value: text } }],
  });
