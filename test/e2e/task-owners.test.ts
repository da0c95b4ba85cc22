/** Tasks belong to who sent them: others neither see nor change them, unless they are let in. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { ExchangeKind } from "../../gen/signalbox/v1/message_pb.ts";
import { createSignalboxClient, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { failureOf } from "../fault/said.ts";
import { bearer, testScheme } from "../fixtures/test-identities.ts";
import { echoAgent } from "./echo-agent.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
const as: Record<string, SignalboxClient> = {};

beforeAll(async () => {
  const principals = {
    admin: { roles: ["admin"] },
    operator: { roles: ["operator"] },
    viewer: { roles: ["viewer"] },
    alice: { roles: ["caller"] },
    bob: { roles: ["caller"] },
    carol: { roles: ["caller"] },
    echo: { roles: ["agent"], agentId: "echo" },
    other: { roles: ["agent"], agentId: "other" },
  };
  app = await startTestApp({
    flags: { "auth.anonymous-role": "none" },
    agents: { echo: echoAgent("echo"), script: act },
    cards: { echo: { skills: [{ id: "echo", name: "echo", description: "echoes", tags: [] }] } },
    headers: bearer("admin"),
    schemes: [testScheme(principals)],
  });
  for (const name of Object.keys(principals)) {
    as[name] = createSignalboxClient({ baseUrl: app.httpUrl, headers: bearer(name), reconnects: 0 });
  }
  await as.admin!.registry.setDefaultAgent({ agentId: "echo" });
});
afterAll(() => app?.stop());

async function send(who: string, contextId = ""): Promise<{ taskId: string; contextId: string }> {
  const message = userMessage("hello", contextId === "" ? {} : { contextId });
  const { payload } = await as[who]!.a2a.sendMessage({ message, configuration: { returnImmediately: true } });
  if (payload.case !== "task") throw new Error("no task");
  await as[who]!.tasks.waitTask({ taskId: payload.value.id });
  return { taskId: payload.value.id, contextId: payload.value.contextId };
}

const reasonOf = async (call: Promise<unknown>) => (await failureOf(call)).reason;
const listed = async (who: string, contextId: string) => (await as[who]!.a2a.listTasks({ contextId })).totalSize;

test("its owner and who sees all see a task; others find none", async () => {
  const { taskId, contextId } = await send("alice");
  for (const who of ["alice", "operator", "viewer", "admin"]) {
    expect((await as[who]!.a2a.getTask({ id: taskId })).id).toBe(taskId);
    expect(await listed(who, contextId)).toBe(1);
  }
  for (const who of ["bob", "echo"]) {
    expect(await reasonOf(as[who]!.a2a.getTask({ id: taskId }))).toBe("TASK_NOT_FOUND");
    expect(await listed(who, contextId)).toBe(0);
  }
});

test("a share lets a principal look, and with can_write change; taken back, there is none", async () => {
  const { taskId, contextId } = await send("alice");
  const subject = { case: "principalId" as const, value: "bob" };
  await as.alice!.tasks.shareContext({ share: { contextId, subject } });
  expect((await as.bob!.tasks.getTask({ taskId })).taskId).toBe(taskId);
  expect(await listed("bob", contextId)).toBe(1);
  expect(await reasonOf(as.bob!.a2a.cancelTask({ id: taskId }))).toBe("SHARED_TO_READ");
  expect(await reasonOf(as.bob!.a2a.listTaskPushNotificationConfigs({ taskId }))).toBe("SHARED_TO_READ");
  expect(await reasonOf(as.carol!.a2a.cancelTask({ id: taskId }))).toBe("TASK_NOT_FOUND");
  await as.alice!.tasks.shareContext({ share: { contextId, subject, canWrite: true } });
  expect(await reasonOf(as.bob!.a2a.cancelTask({ id: taskId }))).toBe("TASK_NOT_CANCELABLE");
  const { shares } = await as.alice!.tasks.listContextShares({ contextId });
  expect(shares).toMatchObject([{ contextId, subject, canWrite: true, ownerId: "alice" }]);
  expect((await as.bob!.tasks.listContextShares({ contextId })).shares).toEqual([]);
  await as.alice!.tasks.unshareContext({ contextId, subject });
  expect(await reasonOf(as.bob!.tasks.getTask({ taskId }))).toBe("TASK_NOT_FOUND");
  expect(await reasonOf(as.alice!.tasks.unshareContext({ contextId, subject }))).toBe("SHARE_NOT_FOUND");
  const { entries } = await as.admin!.audit.listEntries({ targetType: "context", targetId: contextId });
  expect(entries.map(({ action, actor }) => `${actor} ${action}`).toReversed()).toEqual([
    "alice context.share",
    "alice context.share",
    "alice context.unshare",
  ]);
});

test("webhooks hold tokens: who may change no task does not see them, though it sees every task", async () => {
  const { taskId } = await send("alice");
  const config = { taskId, id: "hook", url: "https://example.com/hook", token: "its-token" };
  await as.alice!.a2a.createTaskPushNotificationConfig(config);
  expect((await as.alice!.a2a.getTaskPushNotificationConfig({ taskId, id: "hook" })).token).toBe("its-token");
  expect(await reasonOf(as.viewer!.a2a.getTaskPushNotificationConfig({ taskId, id: "hook" }))).toBe("SCOPE_MISSING");
  expect(await reasonOf(as.viewer!.a2a.listTaskPushNotificationConfigs({ taskId }))).toBe("SCOPE_MISSING");
});

test("a share with a role is for all who have it", async () => {
  const { taskId, contextId } = await send("alice");
  await as.alice!.tasks.shareContext({ share: { contextId, subject: { case: "role", value: "agent" } } });
  expect((await as.other!.tasks.getTask({ taskId })).taskId).toBe(taskId);
  expect(await reasonOf(as.bob!.tasks.getTask({ taskId }))).toBe("TASK_NOT_FOUND");
});

test("what is no subject is refused by its field", async () => {
  const share = (subject: object) =>
    as.alice!.tasks.shareContext({ share: { contextId: "c", subject: subject as never } });
  for (const subject of [
    { case: undefined },
    { case: "principalId", value: "alice" },
    { case: "role", value: "a b" },
  ]) {
    expect(await failureOf(share(subject))).toMatchObject({ reason: "INVALID_ARGUMENT" });
  }
});

test("contexts of one name are as many as there are owners", async () => {
  const contextId = crypto.randomUUID();
  await send("alice", contextId);
  await send("bob", contextId);
  expect(await listed("alice", contextId)).toBe(1);
  expect(await listed("bob", contextId)).toBe(1);
  expect(await listed("viewer", contextId)).toBe(2);
});

test("page tokens are of one principal's list", async () => {
  for (let i = 0; i < 2; i++) await send("carol");
  const { nextPageToken } = await as.carol!.a2a.listTasks({ pageSize: 1 });
  expect(nextPageToken).not.toBe("");
  expect((await as.carol!.a2a.listTasks({ pageSize: 1, pageToken: nextPageToken })).tasks).toHaveLength(1);
  expect(await reasonOf(as.bob!.a2a.listTasks({ pageSize: 1, pageToken: nextPageToken }))).toBe("INVALID_ARGUMENT");
});

test("an agent sends on behalf of a task that it has, and of no other that it does not see", async () => {
  const message = userMessage("ask");
  const given = { message, configuration: { returnImmediately: true }, tenant: "a.script" };
  const { payload } = await as.alice!.a2a.sendMessage(given);
  const parentTaskId = payload.case === "task" ? payload.value.id : "";
  const child = (who: string) =>
    as[who]!.tasks.submitTask({ content: { case: "text", value: "help" }, agentId: "echo", parentTaskId });
  expect(await reasonOf(child("bob"))).toBe("TASK_NOT_FOUND");
  expect(await reasonOf(child("echo"))).toBe("TASK_NOT_FOUND");
});

test("an agent's heartbeat is its own", async () => {
  const beat = (who: string, agentId: string) => as[who]!.registry.heartbeat({ agentId, ttlMs: 60_000 });
  expect((await beat("echo", "echo")).healthy).toBe(true);
  expect((await beat("operator", "echo")).healthy).toBe(true);
  const foreign = await failureOf(beat("other", "echo"));
  const missing = await failureOf(beat("other", "nobody"));
  expect(foreign.reason).toBe("AGENT_NOT_FOUND");
  expect(foreign.message.replace("echo", "x")).toBe(missing.message.replace("nobody", "x"));
});

test("an exchange is its owner's, also under an id that others use", async () => {
  const correlationId = crypto.randomUUID();
  const discover = (who: string) =>
    as[who]!.messages.exchange({ message: { correlationId, payload: { case: "discover", value: {} } } });
  await discover("alice");
  expect(await reasonOf(as.bob!.messages.listExchanges({ correlationId }))).toBe("EXCHANGE_NOT_FOUND");
  const intrude = { correlationId, kind: ExchangeKind.RESPONSE, payload: { case: "result" as const, value: {} } };
  expect(await reasonOf(as.bob!.messages.exchange({ message: intrude }))).toBe("EXCHANGE_NOT_FOUND");
  await discover("bob");
  expect((await as.alice!.messages.listExchanges({ correlationId })).messages).toHaveLength(2);
  expect((await as.bob!.messages.listExchanges({ correlationId })).messages).toHaveLength(2);
  expect((await as.viewer!.messages.listExchanges({ correlationId })).messages).toHaveLength(4);
});

test("a key of idempotency is its principal's", async () => {
  const idempotencyKey = crypto.randomUUID();
  const submit = async (who: string) =>
    (await as[who]!.tasks.submitTask({ content: { case: "text", value: "once" }, agentId: "echo", idempotencyKey }))
      .taskId;
  const first = await submit("alice");
  expect(await submit("alice")).toBe(first);
  expect(await submit("bob")).not.toBe(first);
});

test("live events tell of what one sees", async () => {
  const stop = new AbortController();
  const events = as.bob!.tasks.watchTasks({}, { signal: stop.signal })[Symbol.asyncIterator]();
  await events.next();
  const hidden = await send("alice");
  const { taskId } = await send("bob");
  // What bob has begun before may end only now.
  for (let seen: string | undefined; seen !== taskId; ) {
    const { value } = await events.next();
    seen = value?.event?.taskId;
    expect(seen).not.toBe(hidden.taskId);
  }
  stop.abort();
});
