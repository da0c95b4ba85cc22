/**
 * An agent behind a socket that says what the test says, when the test says it. It keeps its tasks, so that whichever replica
 * asks is told the same: by stream, by subscription and by look. It speaks JSON-RPC.
 */
import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createInbox } from "../fault/inbox.ts";
import { cardOf } from "./rogue-agent.ts";

export type PuppetState = "SUBMITTED" | "WORKING" | "INPUT_REQUIRED" | "AUTH_REQUIRED" | "COMPLETED" | "CANCELED";

/** What the agent does about one message. It says nothing until a method is called. */
export interface RemoteTurn {
  /** The text of the message. */
  readonly text: string;
  /** The agent's own id of the task. */
  readonly taskId: string;
  readonly headers: IncomingMessage["headers"];
  /** Tells the task, by its name, to who sent the message. */
  name(state?: PuppetState): void;
  /** Tells everybody who listens to the task. After the task's end, nothing. */
  status(state: PuppetState, text?: string): void;
  chunk(text: string): void;
  /** Answers the message with a bare Message. */
  reply(text: string): void;
  /** Breaks every connection of the task. */
  hangUp(): void;
}

/** A CancelTask, and the ways to answer it. */
export interface PuppetCancel {
  readonly taskId: string;
  /** Cancels the task, unless it has ended: then it refuses. */
  obey(): void;
  /** Answers with the task as it stands. */
  show(): void;
  refuse(): void;
}

export interface RemotePuppet {
  readonly card: AgentCard;
  /** The turn of the next message that arrives, or has arrived. */
  turn(): Promise<RemoteTurn>;
  /** The texts of all messages that have arrived. */
  readonly heard: readonly string[];
  /** The next CancelTask that has come; it was obeyed, unless the puppet was started with `answersCancels: false`. */
  canceled(): Promise<PuppetCancel>;
  /** Resolves for each subscription, when it was shown the task. */
  subscribed(): Promise<string>;
  /** Resolves for each listener that hangs up before its stream has ended. */
  left(): Promise<string>;
  /** How a task stands, for the agent itself. */
  stateOf(taskId: string): PuppetState | undefined;
  /** Knows a task no more, as an agent that was restarted. */
  forget(taskId: string): void;
  close(): Promise<void>;
}

interface Kept {
  id: string;
  state: PuppetState;
  said: string | undefined;
  chunks: string[];
  streams: Set<Answer>;
}

interface Answer {
  result(value: object): void;
  refuse(code: number): void;
  item(value: object): void;
  end(): void;
  hangUp(): void;
}

interface Params {
  id?: string;
  message?: { taskId?: string; parts: { text?: string }[] };
}

const NOT_FOUND = -32001;
const NOT_CANCELABLE = -32002;
const UNSUPPORTED = -32004;
const contextId = "remote-puppet";

export async function startRemotePuppet({ answersCancels = true, port = 0 } = {}): Promise<RemotePuppet> {
  const tasks = new Map<string, Kept>();
  const heard: string[] = [];
  const turns = createInbox<RemoteTurn>();
  const cancels = createInbox<PuppetCancel>();
  const subscriptions = createInbox<string>();
  const leavers = createInbox<string>();

  function setStatus(task: Kept, state: PuppetState, said?: string): void {
    if (isOver(task)) return;
    Object.assign(task, { state, said });
    for (const stream of task.streams)
      stream.item({ statusUpdate: { taskId: task.id, contextId, status: statusOf(task) } });
    if (!isOver(task) && state !== "INPUT_REQUIRED") return;
    for (const stream of task.streams) stream.end();
    task.streams.clear();
  }

  function onMessage(answer: Answer, { message }: Params, headers: IncomingMessage["headers"], streams: boolean): void {
    const text = message?.parts[0]?.text ?? "";
    const task = message?.taskId ? tasks.get(message.taskId) : newTask();
    if (!task) {
      answer.refuse(NOT_FOUND);
      return;
    }
    const { id } = task;
    tasks.set(id, task);
    // A stream that goes on with a task begins with the task as it stands (section 3.1.2), also with its question.
    if (streams && message?.taskId) answer.item({ task: shown(task) });
    if (streams) task.streams.add(answer);
    else answer.result({ task: shown(task) });
    heard.push(text);
    turns.put({
      text,
      taskId: id,
      headers,
      name(state = "WORKING") {
        task.state = state;
        answer.item({ task: shown(task) });
      },
      status: (state, said) => setStatus(task, state, said),
      chunk(said) {
        const append = task.chunks.push(said) > 1;
        const artifactUpdate = { taskId: id, contextId, artifact: artifactOf([said]), append };
        for (const stream of task.streams) stream.item({ artifactUpdate });
      },
      reply(said) {
        tasks.delete(id);
        answer.item({ message: messageOf(said) });
        answer.end();
      },
      hangUp() {
        for (const stream of task.streams) stream.hangUp();
        task.streams.clear();
      },
    });
  }

  function onCancel(answer: Answer, task: Kept): void {
    const cancel: PuppetCancel = {
      taskId: task.id,
      obey() {
        if (isOver(task)) return answer.refuse(NOT_CANCELABLE);
        setStatus(task, "CANCELED");
        answer.result(shown(task));
      },
      show: () => answer.result(shown(task)),
      refuse: () => answer.refuse(NOT_CANCELABLE),
    };
    if (answersCancels) cancel.obey();
    cancels.put(cancel);
  }

  function onSubscribe(answer: Answer, task: Kept): void {
    if (isOver(task)) {
      answer.refuse(UNSUPPORTED);
      return;
    }
    answer.item({ task: shown(task) });
    task.streams.add(answer);
    subscriptions.put(task.id);
  }

  const server = createServer((request, response) => {
    // A health check.
    if (request.method === "GET") return void response.writeHead(405).end();
    void receive(request).then(({ id, method, params }) => {
      const answer = answerTo(id, response);
      response.once("close", () => {
        for (const task of tasks.values()) if (task.streams.delete(answer)) leavers.put(task.id);
      });
      if (method.startsWith("Send")) return onMessage(answer, params, request.headers, method.includes("Streaming"));
      const task = tasks.get(params.id ?? "");
      if (!task) return answer.refuse(NOT_FOUND);
      if (method === "CancelTask") onCancel(answer, task);
      else if (method === "SubscribeToTask") onSubscribe(answer, task);
      else answer.result(shown(task));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));

  return {
    card: cardOf("JSONRPC", `http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    turn: turns.next,
    heard,
    canceled: cancels.next,
    subscribed: subscriptions.next,
    left: leavers.next,
    stateOf: (taskId) => tasks.get(taskId)?.state,
    forget: (taskId) => void tasks.delete(taskId),
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

async function receive(request: IncomingMessage): Promise<{ id: unknown; method: string; params: Params }> {
  let text = "";
  for await (const chunk of request) text += chunk;
  return JSON.parse(text);
}

function answerTo(id: unknown, response: ServerResponse): Answer {
  const body = (content: object) => JSON.stringify({ jsonrpc: "2.0", id, ...content });
  const send = (content: object) => void response.setHeader("content-type", "application/json").end(body(content));
  return {
    result: (result) => send({ result }),
    refuse: (code) => send({ error: { code, message: "no" } }),
    item(result) {
      if (!response.headersSent) response.setHeader("content-type", "text/event-stream");
      response.write(`data: ${body({ result })}\n\n`);
    },
    end: () => void response.end(),
    hangUp: () => void response.socket?.resetAndDestroy(),
  };
}

const newTask = (): Kept => ({ id: randomUUID(), state: "SUBMITTED", said: undefined, chunks: [], streams: new Set() });

const isOver = ({ state }: Kept): boolean => state === "COMPLETED" || state === "CANCELED";

const statusOf = ({ state, said }: Kept) => ({
  state: `TASK_STATE_${state}`,
  ...(said !== undefined && { message: messageOf(said) }),
});

const shown = (task: Kept) => ({
  id: task.id,
  contextId,
  status: statusOf(task),
  ...(task.chunks.length > 0 && { artifacts: [artifactOf(task.chunks)] }),
});

const artifactOf = (texts: readonly string[]) => ({ artifactId: "story", parts: texts.map((text) => ({ text })) });

const messageOf = (text: string) => ({ messageId: text, role: "ROLE_AGENT", parts: [{ text }] });
