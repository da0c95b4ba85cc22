/** A real A2A agent of @a2a-js/sdk on loopback ports, that does what behaviours.ts says. */
import { createServer, type IncomingMessage } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import {
  type Message,
  AgentCard as SdkAgentCard,
  type SendMessageRequest,
  type StreamResponse,
  type SubscribeToTaskRequest,
} from "@a2a-js/sdk";
import {
  DefaultRequestHandler,
  InMemoryTaskStore,
  type ServerCallContext,
  STATE_HEADERS_KEY,
} from "@a2a-js/sdk/server";
import { agentCardHandler, jsonRpcHandler, restHandler, UserBuilder } from "@a2a-js/sdk/server/express";
import { A2AService, UserBuilder as GrpcUserBuilder, grpcService } from "@a2a-js/sdk/server/grpc";
import { fromJson } from "@bufbuild/protobuf";
import {
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import express from "express";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type BehavingExecutor, createBehaviours } from "./behaviours.ts";

export type Binding = "GRPC" | "JSONRPC" | "HTTP+JSON";

export interface TestAgentOptions {
  /** In the order of the card's preference. Default: all three. */
  bindings?: readonly Binding[];
  name?: string;
  /** Default true. */
  streaming?: boolean;
  /** Default false. */
  pushNotifications?: boolean;
  /** Of every interface. */
  tenant?: string;
  extensions?: readonly { uri: string; required?: boolean }[];
  /** Media types. Default: text/plain. */
  inputModes?: readonly string[];
  skills?: readonly { id: string; name: string; description: string; tags: string[] }[];
  /** Who is let in, over every interface and to the card; others are told 401, or UNAUTHENTICATED. Default: everybody. */
  admits?: (request: AskedRequest) => boolean | Promise<boolean>;
  /** Speaks TLS, and wants a certificate of this authority. */
  tls?: { cert: string; key: string; clientCa: string };
}

/** A request before it is let in. */
export interface AskedRequest {
  method: string;
  /** Path and query. */
  target: string;
  header(name: string): string | undefined;
  /** Of gRPC: with the five bytes before the message. */
  content: Buffer;
}

/** A request as the agent received it. */
export interface ReceivedRequest {
  params: SendMessageRequest;
  headers: Record<string, string | string[] | undefined>;
  extensions: string[];
}

export interface TestAgent extends Pick<BehavingExecutor, "turn" | "ids" | "release"> {
  card: AgentCard;
  cardUrl: string;
  /** The messages that were sent to the agent, as they arrived. */
  received: Message[];
  /** The same with all that came along. */
  requests: ReceivedRequest[];
  /** Resolves when somebody has subscribed to a task of the agent, and has been shown it. */
  subscribed(taskId: string): Promise<void>;
  close(): Promise<void>;
}

const DEFAULT_SKILL = { id: "behave", name: "Behave", description: "Does as it is told.", tags: ["test"] };

export async function startTestAgent(options: TestAgentOptions = {}): Promise<TestAgent> {
  const { bindings = ["GRPC", "JSONRPC", "HTTP+JSON"], admits, tls } = options;
  const app = express();
  if (admits) app.use(doorOf(admits));
  const secure = tls && { cert: tls.cert, key: tls.key, ca: tls.clientCa, requestCert: true };
  const http = (secure ? createSecureServer(secure, app) : createServer(app)).listen(0, "127.0.0.1");
  await new Promise((resolve) => http.once("listening", resolve));
  const base = `${tls ? "https" : "http"}://127.0.0.1:${(http.address() as AddressInfo).port}`;
  const grpc = new Server({ "grpc.max_receive_message_length": -1 });
  const grpcPort = await new Promise<number>((resolve, reject) => {
    const pairs = tls && [{ cert_chain: Buffer.from(tls.cert), private_key: Buffer.from(tls.key) }];
    const credentials = pairs
      ? ServerCredentials.createSsl(Buffer.from(tls.clientCa), pairs, true)
      : ServerCredentials.createInsecure();
    grpc.bindAsync("127.0.0.1:0", credentials, (error, port) => (error ? reject(error) : resolve(port)));
  });

  const urls = {
    GRPC: `${tls ? "https://" : ""}127.0.0.1:${grpcPort}`,
    JSONRPC: `${base}/rpc`,
    "HTTP+JSON": `${base}/rest`,
  };
  const json = {
    name: options.name ?? "Test agent",
    description: "An agent for tests.",
    version: "1.0.0",
    supportedInterfaces: bindings.map((protocolBinding) => ({
      url: urls[protocolBinding],
      protocolBinding,
      protocolVersion: "1.0",
      ...(options.tenant !== undefined && { tenant: options.tenant }),
    })),
    capabilities: {
      streaming: options.streaming ?? true,
      pushNotifications: options.pushNotifications ?? false,
      extensions: (options.extensions ?? []).map((extension) => ({ ...extension })),
    },
    defaultInputModes: [...(options.inputModes ?? ["text/plain"])],
    defaultOutputModes: ["text/plain"],
    skills: (options.skills ?? [DEFAULT_SKILL]).map((skill) => ({ ...skill })),
  };

  const requests: ReceivedRequest[] = [];
  const received: Message[] = [];
  function record(params: SendMessageRequest, context: ServerCallContext): void {
    const headers = (context.state.get(STATE_HEADERS_KEY) ?? {}) as ReceivedRequest["headers"];
    const copy = structuredClone(params);
    requests.push({ params: copy, headers, extensions: [...(context.requestedExtensions ?? [])] });
    if (copy.message) received.push(copy.message);
  }

  const subscriptions = new Map<string, PromiseWithResolvers<void>>();
  function subscriptionTo(taskId: string): PromiseWithResolvers<void> {
    const subscription = subscriptions.get(taskId) ?? Promise.withResolvers<void>();
    subscriptions.set(taskId, subscription);
    return subscription;
  }

  /** The SDK's own handler; it only writes down what comes in. */
  class RecordingHandler extends DefaultRequestHandler {
    override sendMessage(params: SendMessageRequest, context: ServerCallContext) {
      record(params, context);
      return super.sendMessage(params, context);
    }
    override sendMessageStream(params: SendMessageRequest, context: ServerCallContext) {
      record(params, context);
      return super.sendMessageStream(params, context);
    }
    override async *resubscribe(
      params: SubscribeToTaskRequest,
      context: ServerCallContext,
    ): AsyncGenerator<StreamResponse, void, undefined> {
      for await (const item of super.resubscribe(params, context)) {
        subscriptionTo(params.id).resolve();
        yield item;
      }
    }
  }

  const behaviours = createBehaviours();
  const requestHandler = new RecordingHandler(SdkAgentCard.fromJSON(json), new InMemoryTaskStore(), behaviours);
  const userBuilder = UserBuilder.noAuthentication;
  app.use("/.well-known/agent-card.json", agentCardHandler({ agentCardProvider: requestHandler }));
  app.use("/rpc", jsonRpcHandler({ requestHandler, userBuilder }));
  app.use("/rest", restHandler({ requestHandler, userBuilder }));
  const service = grpcService({ requestHandler, userBuilder: GrpcUserBuilder.noAuthentication });
  if (admits) addGuardedService(grpc, service as UntypedServiceImplementation, admits);
  else grpc.addService(A2AService, service);

  return {
    card: fromJson(AgentCardSchema, json),
    cardUrl: `${base}/.well-known/agent-card.json`,
    received,
    requests,
    subscribed: (taskId) => subscriptionTo(taskId).promise,
    turn: behaviours.turn,
    ids: behaviours.ids,
    release: behaviours.release,
    async close() {
      behaviours.release();
      grpc.forceShutdown();
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    },
  };
}

type Admits = NonNullable<TestAgentOptions["admits"]>;

/** Lets requests of HTTP in, or answers 401. Their content is read here, and given on as body-parser would. */
function doorOf(admits: Admits): express.RequestHandler {
  return async (request: IncomingMessage & { body?: unknown; _body?: boolean }, response, next) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const content = Buffer.concat(chunks);
    const header = (name: string) => [request.headers[name] ?? []].flat()[0];
    // Express cuts the mount point off `url`, not here.
    const isLetIn = await admits({ method: request.method!, target: request.url!, header, content });
    if (!isLetIn) return void response.status(401).send("Who are you?");
    if (content.length > 0) Object.assign(request, { body: JSON.parse(content.toString()), _body: true });
    next();
  };
}

/** Lets calls of gRPC in, or answers UNAUTHENTICATED. */
function addGuardedService(grpc: Server, service: UntypedServiceImplementation, admits: Admits): void {
  const contents = new WeakMap<object, Buffer>();
  const guarded: UntypedServiceImplementation = {};
  const definition: Record<string, MethodDefinition<object, object>> = {};
  for (const [name, method] of Object.entries(A2AService as unknown as typeof definition)) {
    definition[name] = {
      ...method,
      requestDeserialize(bytes) {
        const message = method.requestDeserialize(bytes);
        const head = Buffer.alloc(5);
        head.writeUInt32BE(bytes.length, 1);
        contents.set(message, Buffer.concat([head, bytes]));
        return message;
      },
    };
    guarded[name] = async (call: ServerUnaryCall<object, object>, callback?: sendUnaryData<object>) => {
      const header = (wanted: string) => call.metadata.get(wanted)[0]?.toString();
      const content = contents.get(call.request)!;
      if (await admits({ method: "POST", target: method.path, header, content })) {
        return (service[name] as (...given: unknown[]) => unknown)(call, callback);
      }
      const refusal = { code: status.UNAUTHENTICATED, details: "Who are you?" };
      return callback ? callback(refusal) : call.emit("error", refusal);
    };
  }
  grpc.addService(definition, guarded);
}
