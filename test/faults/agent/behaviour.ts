/**
 * What the agents of the fault suite do, chosen by the first word of the message:
 *
 * | text       | what happens                                                                              |
 * | ---------- | ----------------------------------------------------------------------------------------- |
 * | `quick`    | completes with an artifact                                                                |
 * | `slow MS`  | works so long, then completes                                                             |
 * | `chunks N` | sends an artifact in N chunks, completes                                                  |
 * | `ask`      | asks for input; whatever comes next is what it completes with                             |
 * | `auth MS`  | asks for authentication, goes on by itself so much later, completes                       |
 * | `hang`     | works until it is canceled                                                                |
 * | `late MS`  | says nothing for so long, then begins and completes, whatever has happened meanwhile      |
 * | `twice`    | says everything twice, and something else after its end                                   |
 * | `reply`    | answers with a bare Message                                                               |
 * | `die`      | begins, and kills its process, once                                                       |
 */
import { randomUUID } from "node:crypto";
import { Message, Task, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent } from "@a2a-js/sdk";
import { AgentEvent, type AgentExecutor, type ExecutionEventBus, type RequestContext } from "@a2a-js/sdk/server";
import type { Journal } from "./journal.ts";

type State = "WORKING" | "COMPLETED" | "FAILED" | "CANCELED" | "INPUT_REQUIRED" | "AUTH_REQUIRED";

/** Pause between two chunks, in milliseconds. */
const CHUNK_MS = 4;

/** `known` has the ids of messages that came in an earlier life of the agent. */
export function createFaultBehaviour(journal: Journal, known: ReadonlySet<string>): AgentExecutor {
  /** The tasks in hand, with what cancels each. */
  const inHand = new Map<string, () => void>();
  return {
    async execute(context, bus) {
      const { taskId, userMessage } = context;
      const canceled = Promise.withResolvers<"canceled">();
      inHand.set(taskId, () => canceled.resolve("canceled"));
      const turn = createTurn(context, bus, journal);
      const [word = "", argument] = textOf(userMessage).split(" ");
      const work = turn.continues ? "answer" : word === "die" && known.has(userMessage.messageId) ? "quick" : word;
      const pause = (ms: number) => Promise.race([canceled.promise, wait(ms)]);
      await behave(turn, work, Number(argument), pause);
      inHand.delete(taskId);
    },
    async cancelTask(taskId, bus) {
      journal.write({ kind: "canceled", taskId });
      const cancel = inHand.get(taskId);
      if (cancel) return cancel();
      // The turn is over, as while the task waits for its client: nobody else would say it.
      bus.publish(AgentEvent.statusUpdate(statusUpdate(taskId, "", "CANCELED")));
      bus.finished();
    },
  };
}

type Pause = (ms: number) => Promise<"canceled" | "over">;

async function behave(turn: Turn, work: string, amount: number, pause: Pause): Promise<void> {
  const isCanceled = async (ms: number) => (await pause(ms)) === "canceled";
  switch (work) {
    case "reply":
      return turn.reply("Hello.");
    case "answer":
      turn.begin();
      turn.artifact("answer", "heard");
      return turn.end("COMPLETED");
    case "ask":
      turn.begin();
      return turn.status("INPUT_REQUIRED", "What else?");
    case "auth":
      turn.begin();
      turn.status("AUTH_REQUIRED", "Who are you?");
      if (await isCanceled(amount)) return turn.end("CANCELED");
      turn.status("WORKING", "I know you now.");
      return turn.end("COMPLETED");
    case "late":
      await wait(amount);
      turn.begin();
      return turn.end("COMPLETED");
    case "slow":
    case "hang":
      turn.begin();
      turn.status("WORKING");
      return turn.end((await isCanceled(work === "hang" ? 2 ** 31 - 1 : amount)) ? "CANCELED" : "COMPLETED");
    case "chunks":
      turn.begin();
      turn.status("WORKING");
      for (let i = 1; i <= amount; i++) {
        turn.artifact("story", `chunk ${i};`, { append: i > 1, lastChunk: i === amount });
        if (await isCanceled(CHUNK_MS)) return turn.end("CANCELED");
      }
      return turn.end("COMPLETED");
    case "twice":
      turn.begin();
      turn.begin();
      for (let i = 0; i < 2; i++) {
        turn.status("WORKING");
        turn.artifact("result", "once is enough");
      }
      turn.end("COMPLETED");
      return turn.end("FAILED");
    case "die":
      turn.begin();
      process.kill(process.pid, "SIGKILL");
      return new Promise(() => {});
    default:
      turn.begin();
      turn.artifact("result", work);
      return turn.end("COMPLETED");
  }
}

type Turn = ReturnType<typeof createTurn>;

function createTurn(
  { taskId, contextId, task, userMessage }: RequestContext,
  bus: ExecutionEventBus,
  journal: Journal,
) {
  const status = (state: State, text?: string) =>
    bus.publish(AgentEvent.statusUpdate(statusUpdate(taskId, contextId, state, text)));
  return {
    continues: task !== undefined,
    status,
    begin() {
      journal.write({ kind: "began", taskId, messageId: userMessage.messageId });
      const fresh = { id: taskId, contextId, status: { state: "TASK_STATE_WORKING", timestamp: now() } };
      bus.publish(AgentEvent.task(task ?? Task.fromJSON({ ...fresh, history: [Message.toJSON(userMessage)] })));
    },
    artifact(artifactId: string, text: string, chunk: { append?: boolean; lastChunk?: boolean } = {}) {
      const artifact = { artifactId, name: artifactId, parts: [{ text }] };
      const event = TaskArtifactUpdateEvent.fromJSON({ taskId, contextId, artifact, ...chunk });
      bus.publish(AgentEvent.artifactUpdate(event));
    },
    reply(text: string) {
      bus.publish(AgentEvent.message(agentMessage(contextId, text)));
    },
    end(state: State) {
      journal.write({ kind: "ended", taskId });
      status(state);
    },
  };
}

function statusUpdate(taskId: string, contextId: string, state: State, text?: string): TaskStatusUpdateEvent {
  const message =
    text === undefined ? {} : { message: { ...(Message.toJSON(agentMessage(contextId, text)) as object), taskId } };
  return TaskStatusUpdateEvent.fromJSON({
    taskId,
    contextId,
    status: { state: TaskState[`TASK_STATE_${state}`], timestamp: now(), ...message },
  });
}

const now = () => new Date().toISOString();

const agentMessage = (contextId: string, text: string): Message =>
  Message.fromJSON({ messageId: randomUUID(), contextId, role: "ROLE_AGENT", parts: [{ text }] });

/** The text of a message, whose first word says what to do. */
export const textOf = ({ parts }: Message): string =>
  parts.map(({ content }) => (content?.$case === "text" ? content.value : "")).join("");

const wait = (ms: number) => new Promise<"over">((resolve) => setTimeout(() => resolve("over"), ms));
