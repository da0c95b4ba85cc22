/** Whatever way a request takes, a rule that denies an agent holds: over every binding, in every face of the router, for new and further messages. */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { beforeAll, beforeEach, expect, test } from "vitest";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, ROUTING_EXTENSION, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { asTask, failureOf } from "../fault/said.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

/** As it is written in the wish for this feature. */
const POLICY = `
version: 1
rules:
  - effect: DENY
    scope: GLOBAL
    when:
      agent_id: "blocked-agent-001"
    description: "Block specific agent"
  - effect: REQUIRE
    scope: CAPABILITY
    when:
      capability_id: "high-risk-operation"
    then:
      - effect: DENY
        when:
          reputation_score: {"<": 0.5}
        description: "Require good reputation for high-risk ops"
budgets:
  - agent_id: "agent-001"
    capability_id: "premium-service"
    daily_limit: 100.0
    description: "Daily budget for premium service"
`;
const BLOCKED = "blocked-agent-001";

let app: TestApp;
let client: SignalboxClient;
let heard = 0;
/** A task that the agent had before it was blocked, and that asks for something. */
let taskId: string;

beforeAll(async () => {
  app = await startTestApp({
    agents: {
      [BLOCKED]: (...call) => {
        heard += 1;
        return act(...call);
      },
      "agent-001": echoAgent("agent-001"),
    },
  });
  client = createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0 });
  const offer = (agentId: string, capabilityId: string) =>
    client.registry.addCapability({ agentId, capability: { capabilityId, costPerTask: "40" } });
  await offer(BLOCKED, "only-there");
  await offer("agent-001", "premium-service");
  await offer("agent-001", "high-risk-operation");
  await client.registry.setDefaultAgent({ agentId: BLOCKED });
  taskId = asTask(await client.send("ask", { agent: BLOCKED })).id;
  await client.policies.putPolicy({ policy: { document: POLICY } });
  return () => app.stop();
});
beforeEach(() => {
  heard = 0;
  return () => expect(heard).toBe(0);
});

const message = { messageId: "m", role: "ROLE_USER", parts: [{ text: "complete" }] };
const more = { ...message, taskId: "" };

async function post(path: string, body: unknown): Promise<string> {
  const answer = await fetch(app.httpUrl + path, {
    method: "POST",
    headers: { "content-type": "application/json", "a2a-version": "1.0" },
    body: JSON.stringify(body).replaceAll('"taskId":""', `"taskId":"${taskId}"`),
  });
  return answer.text();
}

const rpc = (method: string, params: unknown) => ({ jsonrpc: "2.0", id: 1, method, params });
const wish = (wishes: object) => ({ message, metadata: { [ROUTING_EXTENSION]: wishes } });
const delegate = (work: object, receiver: string) => ({ receiver, delegate: work });

test.each<[string, string, unknown]>([
  ["JSON-RPC at its address", `/agents/${BLOCKED}`, rpc("SendMessage", { message })],
  ["JSON-RPC, streaming", `/agents/${BLOCKED}`, rpc("SendStreamingMessage", { message })],
  ["JSON-RPC by its tenant", "/", rpc("SendMessage", { message, tenant: `a.${BLOCKED}` })],
  ["JSON-RPC as the default agent", "/", rpc("SendMessage", { message })],
  ["JSON-RPC at its capability", "/capabilities/only-there", rpc("SendMessage", { message })],
  ["JSON-RPC, a further message", "/", rpc("SendMessage", { message: more })],
  ["HTTP+JSON at its address", `/agents/${BLOCKED}/message:send`, { message }],
  ["HTTP+JSON, streaming", `/agents/${BLOCKED}/message:stream`, { message }],
  ["HTTP+JSON by its tenant", `/a.${BLOCKED}/message:send`, { message }],
  ["HTTP+JSON by its capability's tenant", "/c.only-there/message:send", { message }],
  ["HTTP+JSON by the extension", "/message:send", wish({ agent: BLOCKED })],
  ["HTTP+JSON by the extension's capability", "/message:send", wish({ capability: "only-there" })],
  ["HTTP+JSON, a further message", "/message:send", { message: more }],
  ["HTTP+JSON, a further message that streams", "/message:stream", { message: more }],
  ["a plain task", "/v1/tasks", { agentId: BLOCKED, text: "complete" }],
  ["a plain task for its capability", "/v1/tasks", { capabilityId: "only-there", text: "complete" }],
  ["a batch", "/v1/tasks:batchSubmit", { requests: [{ agentId: BLOCKED, text: "complete" }] }],
  ["DELEGATE of a request", "/v1/messages:exchange", delegate({ request: { message } }, `a.${BLOCKED}`)],
  [
    "DELEGATE of an input",
    "/v1/messages:exchange",
    delegate({ input: { capabilityId: "only-there", text: "complete" } }, "router"),
  ],
  ["REVISE", "/v1/messages:exchange", { receiver: "router", revise: { taskId: "", text: "complete" } }],
])("%s", async (_, path, body) => {
  const answer = await post(path, body);
  expect(answer).toContain("POLICY_DENIED");
  expect(answer).toContain("Block specific agent");
});

test("gRPC, and Connect", async () => {
  const grpc = createClient(A2AService, createGrpcTransport({ baseUrl: `http://${app.grpcAddress}` }));
  const further = { ...userMessage("complete"), taskId };
  for (const a2a of [grpc, client.a2a]) {
    for (const request of [{ tenant: `a.${BLOCKED}`, message: userMessage("complete") }, { message: further }]) {
      expect(await failureOf(a2a.sendMessage(request))).toMatchObject({
        code: "PermissionDenied",
        reason: "POLICY_DENIED",
        metadata: { rule: "rules[0]", description: "Block specific agent" },
      });
      const streamed = async () => {
        for await (const _ of a2a.sendStreamingMessage(request));
      };
      expect(await failureOf(streamed())).toMatchObject({ reason: "POLICY_DENIED" });
    }
  }
});

test("who is not denied is asked, within the reputation and the budget that the policy wants", async () => {
  expect(asTask(await client.send("hello", { capability: "high-risk-operation" })).artifacts).toHaveLength(1);
  const facts = { agent_id: "agent-001", capability_id: "high-risk-operation", reputation_score: 0.49 };
  expect(await client.policies.evaluatePolicy({ facts })).toMatchObject({
    rules: [{ path: "rules[1].then[0]", description: "Require good reputation for high-risk ops" }],
  });
});
