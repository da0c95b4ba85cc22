/** A small client of a Signalbox server, over the Connect protocol. */
import { randomUUID } from "node:crypto";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import {
  A2AService,
  type Message,
  MessageSchema,
  Role,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type StreamResponse,
  StreamResponseSchema,
  type Task,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { ApprovalService } from "../../gen/signalbox/v1/approval_pb.ts";
import { AuditService } from "../../gen/signalbox/v1/audit_pb.ts";
import { BudgetService } from "../../gen/signalbox/v1/budget_pb.ts";
import { CacheService } from "../../gen/signalbox/v1/cache_pb.ts";
import { MessageService } from "../../gen/signalbox/v1/message_pb.ts";
import { PolicyService } from "../../gen/signalbox/v1/policy_pb.ts";
import { RegistryService } from "../../gen/signalbox/v1/registry_pb.ts";
import { ReputationService } from "../../gen/signalbox/v1/reputation_pb.ts";
import { RolloutService } from "../../gen/signalbox/v1/rollout_pb.ts";
import { RoutingService } from "../../gen/signalbox/v1/routing_pb.ts";
import { TaskService } from "../../gen/signalbox/v1/task_pb.ts";
import { WorkspaceService } from "../../gen/signalbox/v1/workspace_pb.ts";
import { AFTER_SEQUENCE_HEADER, resuming, UPDATES_EXTENSION } from "./resuming-stream.ts";
import { signingInterceptor } from "./signing.ts";

export { sequenceOf } from "./resuming-stream.ts";
export { frameMessage, type SignedHeaders, type SignOptions, signRequest } from "./signing.ts";

/** The key of the request's metadata under which the router reads what a message asks of it. */
export const ROUTING_EXTENSION = "urn:signalbox:a2a:routing:v1";

/** PEM texts of TLS. */
export interface TlsClientOptions {
  /** Authorities that the server's certificate may be of, instead of those that Node trusts. */
  ca?: string | Buffer;
  /** The client's certificate with its chain, and its private key. */
  cert?: string | Buffer;
  key?: string | Buffer;
}

export interface ClientOptions {
  /** Address of the server's HTTP listener, with its base path if it has one. */
  baseUrl: string;
  /** For `https://`: whom to trust, and the certificate to show. */
  tls?: TlsClientOptions;
  /** Ends every call of this client when it aborts. */
  signal?: AbortSignal;
  /** An API key, which is sent with every call. One of `apiKey`, `token` and `signingKey` at most. */
  apiKey?: string;
  /** A token of an issuer that the server trusts, which is sent with every call. */
  token?: string;
  /** An API key that signs every call and is never sent. Calls that send a stream cannot be signed. */
  signingKey?: string;
  /** The workspace to work in, for members of several. */
  workspace?: string;
  /** Sent with every call that does not bring another value. */
  headers?: Readonly<Record<string, string>>;
  /**
   * How many times in a row `stream`, `watch` and `waitFor` connect again when a connection breaks, with pauses of up to
   * 5 s between them. 0 gives up at once. Default 10, which is about 20 s.
   */
  reconnects?: number;
}

export interface WatchOptions extends CallOptions {
  /** Number of the last item that the caller has, from `sequenceOf`: the stream goes on there. */
  after?: number;
}

export interface SendOptions {
  /** Id of the agent that the message is for. Without it, and without a capability, the server chooses. */
  agent?: string;
  /** Capability that is asked for: the server chooses among the agents that have it. Not with `agent`. */
  capability?: string;
  /** How the message is routed and its task carried. */
  routing?: RoutingOptions;
  /** The task to go on with, if the message is text. */
  taskId?: string;
  /** The context to go on in, if the message is text. */
  contextId?: string;
  /**
   * 1 to 255 visible ASCII characters by which the server knows the request again: sent once more, with the same message and
   * its `messageId`, it is answered with the task of the first time. Of a message that is text, the key is the `messageId`.
   */
  idempotencyKey?: string;
  /** Takes no earlier task's result, and keeps this one's for nobody. */
  noStore?: boolean;
  /** Metadata of the request. */
  metadata?: JsonObject;
  signal?: AbortSignal;
}

/** Our routing extension, `urn:signalbox:a2a:routing:v1`: what a message asks of the router. */
export interface RoutingOptions {
  /** Labels that the capability must have. */
  labels?: Readonly<Record<string, string>>;
  /** What chooses among several agents, such as LEAST_LOAD. */
  strategy?: string;
  /** What the task may cost, as a decimal number. */
  maxCost?: string;
  /** BACKGROUND, LOW, NORMAL, HIGH or CRITICAL. */
  priority?: string;
  /** The task fails when it has not ended so many milliseconds after it was accepted. */
  deadlineMs?: number;
  /** AUTO, LOCAL or REMOTE: whether the agent must be in the server's process, or at an address. */
  routeMode?: string;
}

/** Every method throws ConnectError, with the details of google.rpc in it, when the server refuses a call. */
export interface SignalboxClient {
  /** All of A2A. */
  readonly a2a: Client<typeof A2AService>;
  /** The agents behind the server. */
  readonly registry: Client<typeof RegistryService>;
  /** Tasks in plain words, and what operators see of them. */
  readonly tasks: Client<typeof TaskService>;
  /** Which agent takes a task, and why. */
  readonly routes: Client<typeof RoutingService>;
  /** How traffic is steered, and when somebody should look. */
  readonly rollouts: Client<typeof RolloutService>;
  /** Messages of one typed envelope: discover, negotiate, delegate and so on, tied together by a correlation id. */
  readonly messages: Client<typeof MessageService>;
  /** How far agents are trusted, and what is said of what they did. */
  readonly reputations: Client<typeof ReputationService>;
  /** Results that are given again. */
  readonly cache: Client<typeof CacheService>;
  readonly approvals: Client<typeof ApprovalService>;
  /** What is allowed, and what would be by a draft. */
  readonly policies: Client<typeof PolicyService>;
  /** How much may be spent, and how much is. */
  readonly budgets: Client<typeof BudgetService>;
  /** The audit log: entries, checkpoints and proofs. */
  readonly audit: Client<typeof AuditService>;
  /** signalbox.v1.WorkspaceService: workspaces, what they may use, their keys and members, and what they lend each other. */
  readonly workspaces: Client<typeof WorkspaceService>;

  /**
   * Sends a message. Waits until the task ends or needs something, unless `wait` is false. Some agents answer with a
   * message instead of a task.
   */
  send(message: string | Message, options?: SendOptions & { wait?: boolean }): Promise<Task | Message>;

  /**
   * Sends a message and yields the answer as it comes: the task, then its updates; or one message. Once the task has come,
   * a connection that breaks is made anew: each update comes once.
   */
  stream(message: string | Message, options?: SendOptions): AsyncIterable<StreamResponse>;

  /**
   * Yields the task, then its updates until it ends. Of a task that has ended, the task alone; with `after`, the task as it
   * stood then, and what followed. A connection that breaks is made anew: each update comes once.
   */
  watch(taskId: string, options?: WatchOptions): AsyncIterable<StreamResponse>;

  /** Waits until a task ends or needs something of the client (input, authentication). */
  waitFor(taskId: string, options?: CallOptions): Promise<Task>;
}

/** Makes a client. It connects with the first call and holds nothing that needs closing. */
export function createSignalboxClient(options: ClientOptions): SignalboxClient {
  const { baseUrl, tls, signal, signingKey, reconnects = 10 } = options;
  const headers = { ...credentialHeaders(options), ...options.headers };
  const intercept: Interceptor = (next) => (request) => {
    for (const [name, value] of Object.entries({ "A2A-Version": "1.0", ...headers })) {
      if (!request.header.has(name)) request.header.set(name, value);
    }
    return next(signal ? { ...request, signal: AbortSignal.any([request.signal, signal]) } : request);
  };
  const interceptors = signingKey === undefined ? [intercept] : [intercept, signingInterceptor(signingKey)];
  const nodeOptions = tls && { nodeOptions: tls };
  const transport = createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors, ...nodeOptions });
  const a2a = createClient(A2AService, transport);
  const registry = createClient(RegistryService, transport);
  const tasks = createClient(TaskService, transport);
  const routes = createClient(RoutingService, transport);
  const rollouts = createClient(RolloutService, transport);
  const messages = createClient(MessageService, transport);
  const cache = createClient(CacheService, transport);
  const approvals = createClient(ApprovalService, transport);
  const policies = createClient(PolicyService, transport);
  const reputations = createClient(ReputationService, transport);
  const budgets = createClient(BudgetService, transport);
  const audit = createClient(AuditService, transport);
  const workspaces = createClient(WorkspaceService, transport);

  async function send(message: string | Message, options: SendOptions & { wait?: boolean } = {}) {
    const request = sendRequest(message, options);
    request.configuration!.returnImmediately = options.wait === false;
    const { payload } = await a2a.sendMessage(request, callOptions(options));
    if (payload.case === undefined) throw new ConnectError("The server answered with nothing.", Code.Internal);
    return payload.value;
  }

  /** Asks for the number of each item, and for those after a number only. */
  function numbered(options: CallOptions, after?: number): CallOptions {
    const header = new Headers(options.headers);
    const named = header.get("A2A-Extensions") ?? new Headers(headers).get("A2A-Extensions");
    header.set("A2A-Extensions", named ? `${named}, ${UPDATES_EXTENSION}` : UPDATES_EXTENSION);
    if (after !== undefined) header.set(AFTER_SEQUENCE_HEADER, String(after));
    return { ...options, headers: header };
  }

  /** What the streams of a client have in common, and the options of the call that begins one. */
  function resumable(options: CallOptions) {
    const leaving = new AbortController();
    const signals = [signal, options.signal, leaving.signal].filter((given) => given !== undefined);
    const call = { ...options, signal: AbortSignal.any(signals) };
    const resume = (id: string, after: number) => a2a.subscribeToTask({ id }, numbered(call, after));
    return { call, resuming: { resume, reconnects, signal: call.signal, leave: () => leaving.abort() } };
  }

  function stream(message: string | Message, options: SendOptions = {}) {
    const { call, resuming: common } = resumable(callOptions(options));
    // It is on its way at once, whoever reads when.
    const sent = a2a.sendStreamingMessage(sendRequest(message, options), numbered(call));
    return resuming({
      ...common,
      open: () => sent,
      isLast: ({ payload }) =>
        payload.case === "message" || (payload.case === "statusUpdate" && endsTurn(stateOf(payload.value))),
    });
  }

  async function* watch(taskId: string, { after, ...options }: WatchOptions = {}) {
    let begun = false;
    const { call, resuming: common } = resumable(options);
    const updates = resuming({
      ...common,
      open: () => a2a.subscribeToTask({ id: taskId }, numbered(call, after)),
      isLast: ({ payload }) =>
        (payload.case === "task" || payload.case === "statusUpdate") && isTerminal(stateOf(payload.value)),
    });
    try {
      for await (const update of updates) {
        begun = true;
        yield update;
      }
    } catch (error) {
      // A task that has ended is refused before the stream begins (A2A 3.1.6).
      if (begun || ConnectError.from(error).code !== Code.FailedPrecondition) throw error;
      const task = await a2a.getTask({ id: taskId }, options);
      if (!isTerminal(stateOf(task))) throw error;
      yield create(StreamResponseSchema, { payload: { case: "task", value: task } });
    }
  }

  async function waitFor(taskId: string, options?: CallOptions) {
    for await (const { payload } of watch(taskId, options)) {
      if (payload.case !== "task" && payload.case !== "statusUpdate") continue;
      if (isSettled(stateOf(payload.value))) break;
    }
    return a2a.getTask({ id: taskId }, options);
  }

  return {
    a2a,
    registry,
    tasks,
    routes,
    rollouts,
    send,
    stream,
    watch,
    waitFor,
    messages,
    cache,
    approvals,
    policies,
    reputations,
    budgets,
    audit,
    workspaces,
  };
}

/** The headers that say who calls, and where. */
function credentialHeaders({ apiKey, token, signingKey, workspace }: ClientOptions): Record<string, string> {
  const given = [apiKey, token, signingKey].filter((credential) => credential !== undefined);
  if (given.length > 1) throw new TypeError("A client has one of apiKey, token and signingKey.");
  const bearer = apiKey ?? token;
  return {
    ...(bearer !== undefined && { Authorization: `Bearer ${bearer}` }),
    ...(workspace !== undefined && { "Signalbox-Workspace": workspace }),
  };
}

/** A message of the user with one text part. */
export function userMessage(
  text: string,
  ids: { messageId?: string; taskId?: string; contextId?: string } = {},
): Message {
  return create(MessageSchema, {
    messageId: ids.messageId ?? randomUUID(),
    role: Role.USER,
    parts: [{ content: { case: "text", value: text } }],
    taskId: ids.taskId ?? "",
    contextId: ids.contextId ?? "",
  });
}

/** Whether a task in this state has ended. */
export function isTerminal(state: TaskState): boolean {
  return TERMINAL.has(state);
}

/** Whether a task in this state has ended, or waits for its client. */
export function isSettled(state: TaskState): boolean {
  return isTerminal(state) || state === TaskState.INPUT_REQUIRED || state === TaskState.AUTH_REQUIRED;
}

/** Whether a stream that sent a message closes with an update to this state (A2A 11.7). */
const endsTurn = (state: TaskState): boolean => isTerminal(state) || state === TaskState.INPUT_REQUIRED;

const TERMINAL: ReadonlySet<TaskState> = new Set([
  TaskState.COMPLETED,
  TaskState.FAILED,
  TaskState.CANCELED,
  TaskState.REJECTED,
]);

const stateOf = (holder: Pick<Task, "status">): TaskState => holder.status?.state ?? TaskState.UNSPECIFIED;

const callOptions = ({ signal, idempotencyKey, noStore }: SendOptions): CallOptions => ({
  ...(signal && { signal }),
  headers: {
    ...(idempotencyKey !== undefined && { "Idempotency-Key": idempotencyKey }),
    ...(noStore && { "Cache-Control": "no-store" }),
  },
});

/** The request that `send` and `stream` make, as for a preview of its route. */
export function sendRequest(message: string | Message, options: SendOptions): SendMessageRequest {
  const routing = options.routing && { [ROUTING_EXTENSION]: { ...options.routing } as JsonObject };
  return create(SendMessageRequestSchema, {
    tenant: tenantOf(options),
    message: typeof message === "string" ? userMessage(message, idsOf(options)) : message,
    configuration: {},
    ...((options.metadata || routing) && { metadata: { ...options.metadata, ...routing } }),
  });
}

/** A text that is sent again under its key must be the same message, by its id too. */
const idsOf = ({ idempotencyKey, ...ids }: SendOptions) => ({
  ...ids,
  ...(idempotencyKey !== undefined && { messageId: idempotencyKey }),
});

/** The tenant of A2A names the target. */
function tenantOf({ agent, capability }: SendOptions): string {
  if (agent !== undefined) return `a.${agent}`;
  return capability === undefined ? "" : `c.${capability}`;
}
