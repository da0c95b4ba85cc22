/**
 * What the agents of the tests do, chosen by the first word of the message:
 *
 * | text         | what happens                                                                                   |
 * | ------------ | ---------------------------------------------------------------------------------------------- |
 * | `complete`   | works, shows the artifact "result", completes                                                  |
 * | `chunks N`   | works, sends the artifact "story" in N chunks, completes                                       |
 * | `pause N`    | the same, but waits after the first chunk                                                      |
 * | `parts`      | completes with the artifact "parts", whose parts are those of the message                      |
 * | `refer`      | completes with a message that refers to the same tasks as the client's, and to one of nobody   |
 * | `large N`    | completes with an artifact of N characters                                                     |
 * | `ask`        | asks for input; whatever comes next is what it completes with                                  |
 * | `auth`       | asks for authentication, and goes on likewise                                                  |
 * | `login`      | asks for authentication and waits; released, it goes on by itself                              |
 * | `reject`     | rejects the task                                                                               |
 * | `fail`       | works, then fails                                                                              |
 * | `throw`      | throws, as an agent with a bug does                                                            |
 * | `message`    | answers with a bare Message and no task                                                        |
 * | `later`      | the same, once it is released; until then it says nothing                                      |
 * | `slow`       | works until released, then completes                                                           |
 * | `cancel-me`  | the same; canceled by CancelTask, as `slow` and `hang` are                                     |
 * | `stubborn`   | the same, but it cannot be canceled                                                            |
 * | `hush`       | says nothing until released, then works on until it hears more                                 |
 * | `hang`       | says nothing at all until released                                                             |
 * | else         | completes with the artifact "echo", which holds the text                                       |
 */
import { randomUUID } from "node:crypto";
import { Message, Part, Task, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent } from "@a2a-js/sdk";
import { TaskNotCancelableError } from "@a2a-js/sdk/errors";
import { AgentEvent, type AgentExecutor, type ExecutionEventBus, type RequestContext } from "@a2a-js/sdk/server";

type State = "WORKING" | "COMPLETED" | "FAILED" | "REJECTED" | "CANCELED" | "INPUT_REQUIRED" | "AUTH_REQUIRED";
type Outcome = "released" | "canceled";

/** What the agent does about one message. */
export interface AgentTurn {
  /** The agent's own ids. */
  readonly taskId: string;
  readonly contextId: string;
  readonly message: Message;
  /** How its waiting ended. */
  readonly outcome: Promise<Outcome>;
  /** Ends its waiting, which may be yet to come. */
  release(): void;
}

export interface BehavingExecutor extends AgentExecutor {
  /** The turn that begins, or has begun, with the message of this id. */
  turn(messageId: string): Promise<AgentTurn>;
  /** The ids that the agent has given to tasks and contexts. */
  readonly ids: ReadonlySet<string>;
  /** Lets a task that waits go on; without an id, all that wait now. */
  release(taskId?: string): void;
}

export function createBehaviours(): BehavingExecutor {
  /** The tasks that wait, by id, with what ends their waiting. */
  const waiting = new Map<string, (outcome: Outcome) => void>();
  const turns = new Map<string, PromiseWithResolvers<AgentTurn>>();
  const ids = new Set<string>();
  const stubborn = new Set<string>();

  function turnOf(messageId: string): PromiseWithResolvers<AgentTurn> {
    const turn = turns.get(messageId) ?? Promise.withResolvers<AgentTurn>();
    turns.set(messageId, turn);
    return turn;
  }

  function settle(taskId: string, outcome: Outcome): boolean {
    const end = waiting.get(taskId);
    waiting.delete(taskId);
    end?.(outcome);
    return end !== undefined;
  }

  return {
    async execute(context, bus) {
      const turn = createTurn(context, bus);
      const text = context.userMessage.parts
        .map((part) => (part.content?.$case === "text" ? part.content.value : ""))
        .join("");
      const { taskId, contextId, userMessage } = context;
      const { promise: outcome, resolve } = Promise.withResolvers<Outcome>();
      ids.add(taskId).add(contextId);
      if (text === "stubborn") stubborn.add(taskId);
      turnOf(userMessage.messageId).resolve({
        taskId,
        contextId,
        message: userMessage,
        outcome,
        release: () => resolve("released"),
      });
      const wait = async () => {
        waiting.set(taskId, resolve);
        await outcome;
        if (waiting.get(taskId) === resolve) waiting.delete(taskId);
        return outcome;
      };
      await behave(turn, text, wait);
    },

    async cancelTask(taskId, bus) {
      if (stubborn.has(taskId)) throw new TaskNotCancelableError(`Task ${taskId} will not be canceled.`);
      if (settle(taskId, "canceled")) return;
      // The turn is over, as while the task waits for its client: nobody else would say it.
      bus.publish(AgentEvent.statusUpdate(statusUpdate(taskId, "", "CANCELED")));
      bus.finished();
    },

    turn: (messageId) => turnOf(messageId).promise,
    ids,

    release(taskId) {
      for (const id of taskId === undefined ? [...waiting.keys()] : [taskId]) settle(id, "released");
    },
  };
}

async function behave(turn: Turn, text: string, wait: () => Promise<Outcome>): Promise<void> {
  const [word, argument] = text.split(" ", 2);
  if (turn.continues && word !== "hang") {
    turn.begin();
    turn.artifact("answer", text);
    return turn.status("COMPLETED", `You said: ${text}`);
  }
  switch (word) {
    case "message":
      return turn.reply("Hello from the agent.");
    case "later":
      await wait();
      return turn.reply("Hello from the agent.");
    case "throw":
      throw new Error("a bug in the agent");
    case "reject":
      turn.begin();
      return turn.status("REJECTED", "Not this one.");
    case "ask":
      turn.begin();
      return turn.status("INPUT_REQUIRED", "What else?");
    case "auth":
      turn.begin();
      return turn.status("AUTH_REQUIRED", "Who are you?");
    case "login": {
      const outcome = wait();
      turn.begin();
      turn.status("AUTH_REQUIRED", "Who are you?");
      if ((await outcome) === "canceled") return turn.status("CANCELED");
      turn.status("WORKING", "I know you now.");
      return turn.status("COMPLETED");
    }
    case "fail":
      turn.begin();
      turn.status("WORKING");
      return turn.status("FAILED", "It broke.");
    case "hang": {
      const outcome = await wait();
      turn.begin();
      return turn.status(outcome === "released" ? "COMPLETED" : "CANCELED");
    }
    case "hush":
      await wait();
      turn.begin();
      turn.status("WORKING", "At it.");
      // The turn of the next message ends the task.
      return new Promise(() => {});
    case "slow":
    case "stubborn":
    case "cancel-me": {
      // Waits before it speaks: who has seen that it works may release or cancel it.
      const outcome = wait();
      turn.begin();
      turn.status("WORKING", "At it.");
      return turn.status((await outcome) === "released" ? "COMPLETED" : "CANCELED");
    }
    case "chunks":
    case "pause": {
      const count = Number(argument);
      turn.begin();
      turn.status("WORKING");
      for (let i = 1; i <= count; i++) {
        turn.artifact("story", `chunk ${i};`, { append: i > 1, lastChunk: i === count });
        if (word === "pause" && i === 1 && (await wait()) === "canceled") return turn.status("CANCELED");
      }
      return turn.status("COMPLETED", "The end.");
    }
    case "parts":
      turn.begin();
      turn.artifact("parts", turn.message.parts);
      return turn.status("COMPLETED");
    case "refer":
      turn.begin();
      return turn.status("COMPLETED", "See there.", {
        referenceTaskIds: [...turn.message.referenceTaskIds, "a-task-of-nobody"],
      });
    default:
      turn.begin();
      turn.status("WORKING");
      if (word === "large") turn.artifact("large", "x".repeat(Number(argument)));
      else turn.artifact(word === "complete" ? "result" : "echo", text);
      return turn.status("COMPLETED", "Done.");
  }
}

type Turn = ReturnType<typeof createTurn>;

/** What an agent may say in one turn. */
function createTurn({ taskId, contextId, task, userMessage }: RequestContext, bus: ExecutionEventBus) {
  return {
    continues: task !== undefined,
    message: userMessage,
    /** The Task with which the turn begins. */
    begin() {
      const status = { state: "TASK_STATE_SUBMITTED", timestamp: new Date().toISOString() };
      const fresh = () => Task.fromJSON({ id: taskId, contextId, status, history: [Message.toJSON(userMessage)] });
      bus.publish(AgentEvent.task(task ?? fresh()));
    },
    status(state: State, text?: string, init: { referenceTaskIds?: string[] } = {}) {
      bus.publish(AgentEvent.statusUpdate(statusUpdate(taskId, contextId, state, text, init)));
    },
    artifact(name: string, content: string | Part[], chunk: { append?: boolean; lastChunk?: boolean } = {}) {
      const parts = typeof content === "string" ? [{ text: content }] : content.map((part) => Part.toJSON(part));
      const artifact = { artifactId: name, name, parts };
      bus.publish(
        AgentEvent.artifactUpdate(TaskArtifactUpdateEvent.fromJSON({ taskId, contextId, artifact, ...chunk })),
      );
    },
    reply(text: string) {
      bus.publish(AgentEvent.message(Message.fromJSON(agentMessage(contextId, text))));
    },
  };
}

function statusUpdate(
  taskId: string,
  contextId: string,
  state: State,
  text?: string,
  init: { referenceTaskIds?: string[] } = {},
): TaskStatusUpdateEvent {
  return TaskStatusUpdateEvent.fromJSON({
    taskId,
    contextId,
    status: {
      state: TaskState[`TASK_STATE_${state}`],
      timestamp: new Date().toISOString(),
      ...(text !== undefined && { message: { ...agentMessage(contextId, text), taskId, ...init } }),
    },
  });
}

const agentMessage = (contextId: string, text: string) => ({
  messageId: randomUUID(),
  contextId,
  role: "ROLE_AGENT",
  parts: [{ text }],
});
