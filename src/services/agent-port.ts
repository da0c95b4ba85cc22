/**
 * The port through which the dispatcher speaks to an agent. outbound/ implements it once per binding; a function in this
 * process can implement it too. All ids in what passes here are the agent's own, never ours.
 */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { AgentCard, AgentInterface, Message, StreamResponse, Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { AgentHome } from "../store/agent-repository.ts";

/** What travels with a call to an agent besides its body. */
export interface AgentCallOptions {
  /** Ends the call. Required: every wait can be ended. */
  signal: AbortSignal;
  /** Longest silence of the agent before the call fails with kind "timeout", in milliseconds. */
  timeoutMs: number;
  /** Extension URIs that the client named; sent on as A2A-Extensions. */
  extensions?: readonly string[];
  /** W3C trace context of the request, sent on as it is. */
  traceparent?: string;
  /** When the task fails if it has not ended. The agent is told: it need not work beyond it. */
  deadlineAt?: Date;
}

export interface AgentSendOptions extends AgentCallOptions {
  acceptedOutputModes?: readonly string[];
  /** Asks the agent to answer `send` as soon as it has a task, instead of when the task rests (section 3.2.2). */
  returnImmediately?: boolean;
  /** Metadata of the client's request, sent on untouched. */
  metadata?: Record<string, unknown>;
}

/** A way to one agent, over one interface of its card. Safe for concurrent use. */
export interface AgentClient {
  /** Whether `sendStream` and `subscribe` may be used: the card says capabilities.streaming. */
  readonly streaming: boolean;
  /** Set as long as not the agent answers, but somebody who knows its answer: what that takes says nothing of the agent. */
  readonly standsIn?: boolean;
  /** SendMessage: answers with a Task or a Message. */
  send(message: Message, options: AgentSendOptions): Promise<StreamResponse>;
  /** SendStreamingMessage: each item as the agent sent it. Ends when the agent ends the stream. */
  sendStream(message: Message, options: AgentSendOptions): AsyncIterable<StreamResponse>;
  /** SubscribeToTask: a Task first, then what follows. */
  subscribe(taskId: string, options: AgentCallOptions): AsyncIterable<StreamResponse>;
  /** GetTask with all of its history. */
  get(taskId: string, options: AgentCallOptions): Promise<Task>;
  /** CancelTask. */
  cancel(taskId: string, options: AgentCallOptions): Promise<Task>;
  /** Lets go of the client: it is not called again. */
  release(): void;
}

/** Whose an agent is, and its id there. */
export type AgentPlace = AgentHome;

/** An agent to be called. */
export interface AgentAddress {
  workspaceId: string;
  agentId: string;
  /**
   * Where it is registered, of an agent that another workspace lends. Connections and credentials go by this: they are those of the
   * workspace that lends it.
   */
  home?: AgentHome;
  card: AgentCard;
}

/** An agent that tasks are given to. */
export interface AgentEndpoint extends AgentAddress {
  /** Whether a task may be sent to it once more when nobody knows what became of the first time. */
  safeToRepeat: boolean;
  /** JSON Schema that the data parts of its answer must fit, if its capability has one. */
  outputSchema?: JsonObject;
}

/** Finds and keeps the clients of agents. */
export interface AgentConnector {
  /** The interface of the card that would be called, or undefined when the router speaks none of them. */
  pick(card: AgentCard): AgentInterface | undefined;
  /**
   * A client that the caller holds until it releases it: what becomes of the agent's card meanwhile does not touch it.
   * Throws AgentCallError (kind "unreachable") when the card offers no interface that the router speaks.
   */
  connect(address: AgentAddress): AgentClient;
  /** Keeps no connection for further calls, after an agent's card changed or it left. By where the agent is registered. */
  forget(workspaceId: string, agentId: string): void;
  close(): Promise<void>;
}

/**
 * How a call to an agent failed.
 * - `unreachable`: the request provably never reached the agent (connection refused, name not found, TLS failed).
 * - `broken`: the connection broke after the request may have reached it.
 * - `timeout`: the agent was silent for too long.
 * - `refused`: the agent answered with an error of its own; `reason` holds it.
 * - `invalid`: the agent answered something that is no A2A; `raw` holds it.
 */
export type AgentFailureKind = "unreachable" | "broken" | "timeout" | "refused" | "invalid";

export interface AgentCallErrorInit {
  /** For kind "refused": the A2A reason (`TASK_NOT_FOUND`, ...) or, where the agent gave none, its status. */
  reason?: string;
  /** What the agent sent, for kind "invalid"; cut to 8 KiB. Kept in the log, never shown to clients. */
  raw?: string;
  cause?: unknown;
}

export class AgentCallError extends Error {
  readonly kind: AgentFailureKind;
  readonly reason: string | undefined;
  readonly raw: string | undefined;

  /** `message` is a sentence that a person understands and any client may see; made well-formed Unicode. */
  constructor(kind: AgentFailureKind, message: string, init: AgentCallErrorInit = {}) {
    super(message.toWellFormed(), init.cause === undefined ? undefined : { cause: init.cause });
    this.name = "AgentCallError";
    this.kind = kind;
    this.reason = init.reason?.toWellFormed();
    this.raw = init.raw?.slice(0, 8192).toWellFormed();
  }
}

/** Fetches agent cards from URLs. */
export interface CardFetcher {
  /**
   * Fetches and checks the card at `url`, with If-None-Match when `etag` is given, else If-Modified-Since when `modified` is.
   * Returns undefined when the server says that it has not changed.
   * With `agent`, the request carries that agent's credential, at the origin of `url` and nowhere else.
   * Throws SignalboxError: UNAVAILABLE CARD_UNAVAILABLE, INVALID_ARGUMENT for a URL that is not allowed or a card that
   * breaks the contract, naming the field.
   */
  fetch(
    url: string,
    options: {
      etag?: string | undefined;
      modified?: string | undefined;
      agent?: AgentPlace | undefined;
      signal: AbortSignal;
    },
  ): Promise<FetchedCard | undefined>;
}

export interface FetchedCard {
  card: AgentCard;
  /** The card as its server sent it, unknown fields and all: what its signatures may be over. */
  json?: JsonObject;
  etag?: string;
  /** Last-Modified, as the server wrote it. */
  modified?: string;
}

/** Fetches JWK Sets (RFC 7517, section 5) from URLs. */
export interface CardKeyFetcher {
  /**
   * The JSON at `url`, whatever it says; no redirect is followed. Throws SignalboxError: UNAVAILABLE KEYS_UNAVAILABLE,
   * INVALID_ARGUMENT for a URL that is not allowed.
   */
  fetch(url: string, options: { signal: AbortSignal }): Promise<JsonValue>;
}

/** Finds out whether agents can be called. */
export interface AgentProber {
  /**
   * Asks at the interface that the router would call whether somebody is there, over a connection of its own: grpc.health.v1
   * over gRPC, where an agent that does not know it is alive all the same; a GET over HTTP, where anything below 500, and 501,
   * is an answer. An agent in this process is there. It carries the agent's credential, as calls do.
   *
   * @throws AgentCallError that says why it is not.
   */
  probe(agent: AgentAddress, options: { signal: AbortSignal; timeoutMs: number }): Promise<void>;
}

/** Posts push notifications. */
export interface WebhookSender {
  /** Refuses a URL that may not be posted to: INVALID_ARGUMENT with the remedy. */
  check(url: string): Promise<void>;
  /** POSTs `body` to `url`. Throws when the answer is not 2xx, within `timeoutMs`. The URL is guarded at each call. */
  post(
    url: string,
    body: string,
    headers: Record<string, string>,
    options: { signal: AbortSignal; timeoutMs: number },
  ): Promise<void>;
}
