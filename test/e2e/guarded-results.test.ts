/** A policy about results, over every door of a running server: what it looks at does not stream, and what it refuses is nowhere. */
import { beforeAll, expect, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { FallbackCondition } from "../../gen/signalbox/v1/rollout_pb.ts";
import { createSignalboxClient, ROUTING_EXTENSION, type SignalboxClient, userMessage } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { asTask, failureOf, lineOf, statusOf, textOf } from "../fault/said.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

const POLICY = `
version: 1
rules:
  - effect: DENY
    scope: CAPABILITY
    when: {capability_id: tell, output_text: {matches: "classified"}}
    description: Nothing classified leaves
`;
const TELL = { capability: "tell" };

let app: TestApp;
let client: SignalboxClient;

beforeAll(async () => {
  app = await startTestApp({ agents: { worker: act } });
  client = createSignalboxClient({ baseUrl: app.httpUrl, reconnects: 0 });
  for (const capabilityId of ["tell", "work"]) {
    await client.registry.addCapability({ agentId: "worker", capability: { capabilityId } });
  }
  await client.policies.putPolicy({ policy: { document: POLICY } });
  return () => app.stop();
});

const cardOf = async (capabilityId: string) =>
  (await fetch(`${app.httpUrl}/capabilities/${capabilityId}/.well-known/agent-card.json`)).json();

test("its card says that it does not stream, and who streams is told", async () => {
  expect(await cardOf("tell")).toMatchObject({ capabilities: { streaming: false } });
  expect(await cardOf("work")).toMatchObject({ capabilities: { streaming: true } });
  const streamed = async () => {
    for await (const _ of client.a2a.sendStreamingMessage({ tenant: "c.tell", message: userMessage("complete") }));
  };
  expect(await failureOf(streamed())).toMatchObject({ reason: "UNSUPPORTED_OPERATION" });
});

test("what may leave leaves whole, and last", async () => {
  const lines: string[] = [];
  // The router's own card streams.
  const request = { message: userMessage("chunks"), metadata: { [ROUTING_EXTENSION]: TELL } };
  for await (const item of client.a2a.sendStreamingMessage(request)) lines.push(lineOf(item));
  const open: string[] = [];
  for await (const item of client.stream("chunks", { capability: "work" })) open.push(lineOf(item));
  const artifacts = (all: string[]) => all.filter((line) => line.startsWith("chunk"));
  expect(artifacts(lines)).toEqual(artifacts(open));
  expect(lines.at(-1)).toBe(open.at(-1));
});

test("what may not leave is nowhere", async () => {
  const task = asTask(await client.send("echo classified", TELL));
  expect(statusOf(task)).toBe(
    "FAILED: The output of this task was withheld by policy: rules[0] (Nothing classified leaves).",
  );
  expect(task.artifacts).toEqual([]);
  const { transitions } = await client.tasks.listTaskTransitions({ taskId: task.id });
  expect(transitions.at(-1)?.cause).toBe("withheld by policy: rules[0] (Nothing classified leaves)");
  const listed = await client.a2a.listTasks({ includeArtifacts: true, status: TaskState.FAILED });
  expect(listed.tasks.find(({ id }) => id === task.id)?.artifacts).toEqual([]);
  expect(textOf(asTask(await client.send("echo free", TELL)))).toContain("free");
  // Without the rule's capability, nothing is looked at.
  expect(textOf(asTask(await client.send("echo classified", { capability: "work" })))).toContain("classified");
});

test("what is asked for is looked at also of an agent of the fallback chain that does not offer it", async () => {
  const step = { target: { case: "agentId" as const, value: "worker" }, conditions: [FallbackCondition.NO_CANDIDATE] };
  await client.rollouts.updateRollout({ rollout: { capabilityId: "whisper", fallbackChain: [step] } });
  const when = '{capability_id: whisper, output_text: {matches: "classified"}}';
  await client.policies.putPolicy({ policy: { document: `version: 1\nrules: [{effect: DENY, when: ${when}}]\n` } });
  try {
    const task = asTask(await client.send("echo classified", { capability: "whisper" }));
    expect(statusOf(task)).toContain("withheld by policy");
    expect(textOf(asTask(await client.send("echo free", { capability: "whisper" })))).toContain("free");
  } finally {
    await client.rollouts.deleteRollout({ capabilityId: "whisper" });
    await client.policies.putPolicy({ policy: { document: POLICY } });
  }
});

test("a bare message is looked at as well", async () => {
  const said = await client.send("message", TELL);
  expect(textOf(said)).not.toBe("");
});
