/** Answers in an agent's place where somebody knows its answer; where nobody does, the agent is asked after all. */
import type { StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { AgentCallError, type AgentClient, type AgentSendOptions } from "./agent-port.ts";

export interface StandIn {
  /** Whether the answer is known already: the task needs no room. */
  readonly isReady: boolean;
  /** The answer to the task's first message. Undefined: the agent must be asked. Throws the signal's reason, and nothing else. */
  answer(options: Pick<AgentSendOptions, "signal" | "timeoutMs">): Promise<StreamResponse | undefined>;
}

/** A task that was canceled before its answer came: its agent has never heard of it. */
const unknownToAgent = () =>
  new AgentCallError("refused", "The agent was never given this task.", { reason: "TASK_NOT_FOUND" });

/** The agent was not asked, and is not asked in this run: the task waits elsewhere by now, or has ended. */
export class NotAskedError extends Error {
  constructor() {
    super("the agent is not asked now");
    this.name = "NotAskedError";
  }
}

/** Makes room at the agent for a task that nobody has answered. False: it must not go there now. */
export type MakeRoom = (signal: AbortSignal) => Promise<boolean>;

/**
 * A client that asks `standIn` first, and otherwise is the agent's own, which it releases. Where nobody knows the answer, and
 * there is no room, it throws NotAskedError. Once the signal of a call has aborted, that call does not go on to the agent.
 */
export const standingIn = (standIn: StandIn, agent: AgentClient, makeRoom: MakeRoom): AgentClient =>
  new StandInClient(standIn, agent, makeRoom);

class StandInClient implements AgentClient {
  standsIn = true;
  readonly #standIn: StandIn;
  readonly #agent: AgentClient;
  readonly #makeRoom: MakeRoom;
  readonly subscribe: AgentClient["subscribe"];
  readonly get: AgentClient["get"];
  readonly cancel: AgentClient["cancel"];
  readonly release: AgentClient["release"];

  constructor(standIn: StandIn, agent: AgentClient, makeRoom: MakeRoom) {
    this.#standIn = standIn;
    this.#agent = agent;
    this.#makeRoom = makeRoom;
    this.subscribe = (taskId, options) => agent.subscribe(taskId, options);
    this.get = (taskId, options) => agent.get(taskId, options);
    this.cancel = async (taskId, options) => {
      if (this.standsIn) throw unknownToAgent();
      return agent.cancel(taskId, options);
    };
    this.release = () => agent.release();
  }

  get streaming(): boolean {
    return this.#agent.streaming;
  }

  send: AgentClient["send"] = async (message, options) =>
    (await this.#ask(options)) ?? this.#agent.send(message, options);

  sendStream: AgentClient["sendStream"] = (message, options) => this.#stream(message, options);

  async *#stream(...[message, options]: Parameters<AgentClient["sendStream"]>): AsyncGenerator<StreamResponse> {
    const answer = await this.#ask(options);
    if (answer) yield answer;
    else yield* this.#agent.sendStream(message, options);
  }

  /** Once: what is sent later goes on with what the agent has. */
  async #ask(options: AgentSendOptions): Promise<StreamResponse | undefined> {
    if (!this.standsIn) return undefined;
    const { signal } = options;
    const answer = await this.#standIn.answer(options);
    if (answer) return answer;
    signal.throwIfAborted();
    const hasRoom = await this.#makeRoom(signal);
    signal.throwIfAborted();
    if (!hasRoom) throw new NotAskedError();
    this.standsIn = false;
    return undefined;
  }
}
