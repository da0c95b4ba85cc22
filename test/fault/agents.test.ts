/** Agents that are dead, mute, cut off or flooding: each task ends as it should, with a reason, and nothing is left open. */
import { describe, expect, onTestFinished, test } from "vitest";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { cardOf, freePort, startRogueTcp } from "../agents/rogue-agent.ts";
import { type Binding, startTestAgent } from "../agents/test-agent.ts";
import { startTestApp } from "../e2e/running-app.ts";
import { portOf, TIMEOUT_MS, through, urlOf, useAgentLab } from "./agent-lab.ts";
import { asTask, failureOf, lineOf, statusOf, textOf } from "./said.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

const { WORKING, COMPLETED } = TaskState;
const BINDINGS = ["GRPC", "JSONRPC", "HTTP+JSON"] as const satisfies readonly Binding[];
const lab = useAgentLab();

describe.each(BINDINGS)("an agent over %s", (binding) => {
  test("that is dead fails the task", async () => {
    const agent = await lab.register(cardOf(binding, urlOf(binding, await freePort())));
    const task = asTask(await lab.client.send("anyone?", { agent }));
    expect(statusOf(task)).toBe("FAILED: The agent could not be reached: nothing listens at its address.");
    expect(statusOf(await lab.client.a2a.getTask({ id: task.id }))).toBe(statusOf(task));
    expect(await lab.causeOf(task.id)).toContain("unreachable");
  });

  test("that accepts and says nothing fails the task in time, and is hung up on", async () => {
    const mute = await startRogueTcp((socket) => socket.resume());
    onTestFinished(() => mute.close());
    const agent = await lab.register(cardOf(binding, urlOf(binding, mute.port)));
    const task = asTask(await lab.client.send("anyone?", { agent }));
    expect(statusOf(task)).toContain(`FAILED: The agent was silent for ${TIMEOUT_MS} ms`);
    // grpc-js keeps the one connection that it is still making; HTTP gives up what it is in.
    if (binding === "GRPC") expect(mute.sockets.size).toBeLessThanOrEqual(1);
    else await mute.idle();
  });

  test("that works on in silence fails the task only when it answers nothing at all", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    onTestFinished(() => real.close());
    const agent = await lab.register(real.card);
    expect(statusOf(asTask(await lab.client.send("hang", { agent })))).toContain("FAILED: The agent was silent");
    const items = lab.client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    // Silent for much longer than it may be, on one stream after another; but asked, it answers.
    const before = lab.logged.lines.length;
    while (lab.logged.lines.slice(before).filter(({ msg }) => msg.startsWith("no stream for the task")).length < 2) {
      await lab.logged.next();
    }
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
  });

  test("whose stream is cut is subscribed to again", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    const proxy = await startTcpProxy(portOf(real.card));
    onTestFinished(() => proxy.close().then(real.close));
    const agent = await lab.register(through(real.card, proxy.port));
    const items = lab.client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    proxy.cut();
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
    expect((await items.next()).done).toBe(true);
    // It was healed, not sent again.
    expect(real.received).toHaveLength(1);
  });

  test("that disappears in mid-task and comes back finishes it", async () => {
    const real = await startTestAgent({ bindings: [binding] });
    const proxy = await startTcpProxy(portOf(real.card));
    onTestFinished(() => proxy.close().then(real.close));
    const agent = await lab.register(through(real.card, proxy.port));
    const items = lab.client.stream("slow", { agent })[Symbol.asyncIterator]();
    while (lineOf((await items.next()).value) !== "WORKING: At it.");
    const before = lab.logged.lines.length;
    proxy.sever();
    while (!lab.logged.lines.slice(before).some(({ failures }) => failures === 2)) await lab.logged.next();
    proxy.mend();
    real.release();
    expect(lineOf((await items.next()).value)).toBe("COMPLETED");
    expect(real.received).toHaveLength(1);
  });
});

test("an agent that is gone for good fails the task with the reason", async () => {
  const real = await startTestAgent({ bindings: ["JSONRPC"] });
  const agent = await lab.register(real.card);
  const { id } = asTask(await lab.client.send("slow", { agent, wait: false }));
  for await (const item of lab.client.watch(id)) if (lineOf(item).includes("At it.")) break;
  await real.close();
  expect(statusOf(await lab.client.waitFor(id))).toBe(
    "FAILED: The agent could not be reached: nothing listens at its address.",
  );
});

test("an agent that forgot the task when it came back fails it with its own words", async () => {
  const real = await startTestAgent({ bindings: ["JSONRPC"] });
  const proxy = await startTcpProxy(portOf(real.card));
  const agent = await lab.register(through(real.card, proxy.port));
  const { id } = asTask(await lab.client.send("slow", { agent, wait: false }));
  for await (const item of lab.client.watch(id)) if (lineOf(item).includes("At it.")) break;
  proxy.sever();
  await real.close();
  const other = await startTestAgent({ bindings: ["JSONRPC"] });
  onTestFinished(() => proxy.close().then(other.close));
  proxy.mend(portOf(other.card));
  expect(statusOf(await lab.client.waitFor(id))).toBe("FAILED: The agent no longer knows this task.");
});

test("an agent that reports on a foreign task fails its own, and touches no other", async () => {
  const first = lab.client.send("first", { agent: "puppet" });
  const one = await lab.puppet.turn();
  one.task();
  const second = lab.client.send("second", { agent: "puppet" });
  const two = await lab.puppet.turn();
  two.task();
  one.say({
    case: "statusUpdate",
    value: {
      $typeName: "lf.a2a.v1.TaskStatusUpdateEvent",
      taskId: two.taskId,
      contextId: "puppet",
      status: { $typeName: "lf.a2a.v1.TaskStatus", state: COMPLETED },
    },
  });
  const failure = await failureOf(first);
  expect(failure).toMatchObject({ code: "Internal", reason: "INVALID_AGENT_RESPONSE" });
  const failed = await lab.client.a2a.getTask({ id: failure.metadata!.taskId! });
  expect(statusOf(failed)).toBe("FAILED: The agent reported on a task that is not the one it was asked about.");
  expect(await lab.causeOf(failed.id)).toContain(two.taskId);
  two.status(COMPLETED, "Mine.");
  expect(statusOf(asTask(await second))).toBe("COMPLETED: Mine.");
});

test("what an agent says after the end is not heard", async () => {
  const lines: string[] = [];
  const read = (async () => {
    for await (const item of lab.client.stream("go", { agent: "puppet" })) lines.push(lineOf(item));
  })();
  const turn = await lab.puppet.turn();
  turn.task();
  turn.status(COMPLETED, "The end.");
  turn.chunk("late");
  turn.status(WORKING, "Once more.");
  turn.end();
  await read;
  expect(lines.slice(-1)).toEqual(["COMPLETED: The end."]);
  const { tasks } = await lab.client.a2a.listTasks({ tenant: "a.puppet", pageSize: 1, includeArtifacts: true });
  expect([statusOf(tasks[0]!), textOf(tasks[0])]).toEqual(["COMPLETED: The end.", ""]);
});

test("an agent that sends 10,000 chunks is heard to the end, and its watchers too", async () => {
  const total = 10_000;
  const turns = lab.puppet.turn();
  const watched = (async () => {
    let chunks = 0;
    for await (const { payload } of lab.client.stream("flood", { agent: "puppet" })) {
      if (payload.case === "artifactUpdate") expect(textOf(payload.value.artifact as never)).toBe(`${++chunks};`);
    }
    return chunks;
  })();
  const turn = await turns;
  turn.task();
  for (let n = 1; n <= total; n++) turn.chunk(`${n};`);
  turn.status(COMPLETED);
  expect(await watched).toBe(total);
  const { tasks } = await lab.client.a2a.listTasks({ tenant: "a.puppet", pageSize: 1, includeArtifacts: true });
  expect(textOf(tasks[0])).toBe(Array.from({ length: total }, (_, i) => `${i + 1};`).join(""));
}, 90_000);

test("nothing stays open after all of that", async () => {
  const openSockets = () => process.getActiveResourcesInfo().filter((kind) => kind === "TCPSocketWrap").length;
  const before = openSockets();
  const mute = await startRogueTcp((socket) => socket.resume());
  const real = await startTestAgent();
  const other = await startTestApp({ flags: { "agent.timeout-ms": "100", "task.retry-max-ms": "100" } });
  const otherClient = createSignalboxClient({ baseUrl: other.httpUrl });
  for (const [agentId, card] of Object.entries({
    dead: cardOf("GRPC", urlOf("GRPC", await freePort())),
    mute: cardOf("JSONRPC", urlOf("JSONRPC", mute.port)),
    real: real.card,
  })) {
    await otherClient.registry.registerAgent({ agentId, source: { case: "card", value: card } });
    await Promise.all(["hang", "hang", "complete"].map((text) => otherClient.send(text, { agent: agentId })));
  }
  await other.stop();
  await mute.idle();
  await real.close();
  await mute.close();
  // Sockets end in the turns of the event loop that follow.
  while (openSockets() > before) await new Promise(setImmediate);
});
