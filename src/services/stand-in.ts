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

/** The agent was not asked, so the task may be tried again. */
const cameToNothing = () => new AgentCallError("unreachable", "The task whose result was waited for has none.");

/**
 * A client that asks `standIn` first, and otherwise is the agent's own, which it releases. `hasRoom`: the agent may be asked
 * at once where nobody knows its answer. Else the attempt ends, as with an agent out of reach, and the next one waits its turn.
 */
export const standingIn = (standIn: StandIn, agent: AgentClient, hasRoom = true): AgentClient =>
  new StandInClient(standIn, agent, hasRoom);

class StandInClient implements AgentClient {
  standsIn = true;
  readonly #standIn: StandIn;
  readonly #agent: AgentClient;
  readonly #hasRoom: boolean;
  readonly subscribe: AgentClient["subscribe"];
  readonly get: AgentClient["get"];
  readonly cancel: AgentClient["cancel"];
  readonly release: AgentClient["release"];

  constructor(standIn: StandIn, agent: AgentClient, hasRoom: boolean) {
    this.#standIn = standIn;
    this.#agent = agent;
    this.#hasRoom = hasRoom;
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
    const answer = this.standsIn ? await this.#standIn.answer(options) : undefined;
    if (answer) return answer;
    if (this.standsIn && !this.#hasRoom) throw cameToNothing();
    this.standsIn = false;
    return undefined;
  }
}
