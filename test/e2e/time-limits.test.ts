/** What ends a task, or a call, when its time is up: who is told, and that there is one outcome. */
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SendOptions, type SignalboxClient } from "../../src/sdk/client.ts";
import { type PuppetCancel, type RemoteTurn, startRemotePuppet } from "../agents/remote-puppet.ts";
import { cardOf } from "../agents/rogue-agent.ts";
import { urlOf } from "../fault/agent-lab.ts";
import { asTask, statusOf, textOf } from "../fault/said.ts";
import { stablePort } from "../setup/stable-port.ts";
import { BACKENDS } from "../store/backends.ts";
import { journalOf, outcomeOf, pathOf, reaches } from "./journal.ts";
import { startTestApp } from "./running-app.ts";

const ROUTING = "urn:signalbox:a2a:routing:v1";
const within = (deadlineMs: number) => ({ metadata: { [ROUTING]: { deadlineMs } } });
const TOO_LATE = "The task's deadline passed before its agent finished.";
const TOO_LONG = "The agent took longer than one attempt may last.";
const NO_INPUT = "The task waited for input for too long.";

async function startServer(backend: "pglite" | "postgres", flags: Record<string, string>) {
  const app = await startTestApp({ backend, flags });
  return {
    client: createSignalboxClient({ baseUrl: app.httpUrl }),
    stop: () => app.stop(),
  };
}

/** An agent of one test that is told to cancel and answers as the test says, and how to send it messages. */
async function startAgent(client: SignalboxClient, safeToRepeat = false) {
  const puppet = await startRemotePuppet({ answersCancels: false });
  onTestFinished(() => puppet.close());
  const agent = `puppet-${++agents}`;
  await register(client, agent, puppet.card, safeToRepeat);
  const send = (text: string, options: SendOptions & { wait?: boolean } = {}) =>
    client.send(text, { agent, ...options });
  return { client, puppet, send };
}
let agents = 0;

const register = (client: SignalboxClient, agentId: string, card: AgentCard, safeToRepeat = false) =>
  client.registry.registerAgent({ agentId, source: { case: "card", value: card }, safeToRepeat });

describe.each(BACKENDS)("on %s", (backend) => {
  let common: SignalboxClient;
  let impatient: SignalboxClient;
  beforeAll(async () => {
    const servers = await Promise.all([
      startServer(backend, {}),
      startServer(backend, {
        "task.attempt-timeout-ms": "1000",
        "task.attempts": "3",
        "task.retry-min-ms": "10",
        "task.input-timeout-ms": "200",
      }),
    ]);
    [common, impatient] = servers.map(({ client }) => client) as [SignalboxClient, SignalboxClient];
    return () => Promise.all(servers.map((server) => server.stop())).then(() => {});
  });

  test("an attempt that takes too long is canceled at the agent and fails the task", async () => {
    const { client, puppet, send } = await startAgent(impatient);
    const answer = send("begin");
    const turn = await puppet.turn();
    turn.name();
    (await puppet.canceled()).obey();
    const task = asTask(await answer);
    expect(await outcomeOf([client], task.id)).toBe(`FAILED: ${TOO_LONG}`);
    expect(puppet.stateOf(turn.taskId)).toBe("CANCELED");
    expect((await journalOf(client, task.id)).at(-1)!.cause).toBe(`timeout: ${TOO_LONG}`);
  });

  test("or makes room for another, if the agent is safe to repeat", async () => {
    const { client, puppet, send } = await startAgent(impatient, true);
    const answer = send("begin");
    // It names one attempt, and says nothing in the other.
    (await puppet.turn()).name();
    (await puppet.canceled()).obey();
    await puppet.turn();
    const turn = await puppet.turn();
    turn.name();
    turn.status("COMPLETED", "At last.");
    const task = asTask(await answer);
    expect(statusOf(task)).toBe("COMPLETED: At last.");
    const steps = await journalOf(client, task.id);
    const failed = steps.filter(({ state }) => state === "SCHEDULED").map(({ cause }) => cause.split(";")[0]);
    expect(failed).toEqual([1, 2].map((n) => `attempt ${n} failed: timeout: ${TOO_LONG}`));
  });

  test("a task that waits for its client for too long is canceled at the agent and fails", async () => {
    const { client, puppet, send } = await startAgent(impatient);
    const answer = send("begin");
    const turn = await puppet.turn();
    turn.name("INPUT_REQUIRED");
    const { id } = asTask(await answer);
    const told = await puppet.canceled();
    expect(told.taskId).toBe(turn.taskId);
    told.obey();
    expect(await reaches(client, id, "FAILED")).toBe(`FAILED: ${NO_INPUT}`);
    expect(await outcomeOf([client], id)).toBe(`FAILED: ${NO_INPUT}`);
    expect(await pathOf(client, id)).toEqual(["ASSIGNED 1", "INPUT_REQUIRED 1", "FAILED 1"]);
  });

  test("a deadline ends a task in every state in which an agent has it", async () => {
    const { client, puppet, send } = await startAgent(common);
    const ids = new Map<string, string>();
    for (const state of ["WORKING", "INPUT_REQUIRED", "AUTH_REQUIRED"] as const) {
      const { id } = asTask(await send("begin", { wait: false, ...within(1000) }));
      const turn = await puppet.turn();
      turn.name(state);
      ids.set(turn.taskId, id);
    }
    for (const _ of ids) {
      const told = await puppet.canceled();
      told.obey();
      const id = ids.get(told.taskId)!;
      expect(await reaches(client, id, "FAILED")).toBe(`FAILED: ${TOO_LATE}`);
      expect(await outcomeOf([client], id)).toBe(`FAILED: ${TOO_LATE}`);
      expect((await journalOf(client, id)).at(-1)!.cause).toBe("time limit: deadline");
    }
  });

  test("and one that waits for its next attempt, or for room as soon as there is some", async () => {
    const hour = "3600000";
    const flags = { "limits.running-tasks": "1", "task.retry-min-ms": hour, "task.retry-max-ms": hour };
    const server = await startServer(backend, flags);
    onTestFinished(() => server.stop());
    const { client, puppet, send } = await startAgent(server.client);
    await register(client, "away", cardOf("JSONRPC", urlOf("JSONRPC", await stablePort())));
    const scheduled = asTask(await client.send("begin", { agent: "away", wait: false, ...within(300) }));
    expect(statusOf(await client.waitFor(scheduled.id))).toBe(`FAILED: ${TOO_LATE}`);
    // Whether it was brought to nobody once or twice, it waited for an hour when its deadline came.
    expect((await pathOf(client, scheduled.id)).slice(0, 2)).toEqual(["ASSIGNED 1", "SCHEDULED 1"]);

    const busy = asTask(await send("busy", { wait: false }));
    const turn = await puppet.turn();
    const queued = asTask(await send("waits", { wait: false, ...within(1) }));
    turn.name("COMPLETED");
    expect(statusOf(await client.waitFor(queued.id))).toBe(`FAILED: ${TOO_LATE}`);
    expect(await pathOf(client, queued.id)).toEqual(["QUEUED 0", "ASSIGNED 1", "FAILED 1"]);
    expect(statusOf(await client.waitFor(busy.id))).toBe("COMPLETED");
    expect(puppet.heard).toEqual(["busy"]);
  });

  test("an agent that is done in the very moment has done it, or not: there is one outcome", async () => {
    const { client, puppet, send } = await startAgent(common);
    const turns = new Map<string, { turn: RemoteTurn; answer: ReturnType<SignalboxClient["send"]> }>();
    for (const text of Object.keys(CROSSINGS)) {
      const answer = send(text, within(1000));
      const turn = await puppet.turn();
      turn.name();
      turn.chunk("so far");
      turns.set(turn.taskId, { turn, answer });
    }
    for (const _ of turns) {
      const told = await puppet.canceled();
      const { turn, answer } = turns.get(told.taskId)!;
      const { outcome, crosses } = CROSSINGS[turn.text]!;
      crosses(turn, told);
      const task = asTask(await answer);
      expect(statusOf(task), turn.text).toBe(outcome);
      expect(await outcomeOf([client], task.id)).toBe(outcome);
      expect(textOf(task)).toBe("so far");
    }
  });
});

/** What an agent does when it is told at the deadline, and what becomes of the task. */
const CROSSINGS: Record<string, { outcome: string; crosses: (turn: RemoteTurn, told: PuppetCancel) => void }> = {
  "answers that it is done": {
    outcome: "COMPLETED: Done.",
    crosses(turn, told) {
      turn.status("COMPLETED", "Done.");
      told.show();
    },
  },
  "refuses because it is done": {
    outcome: "COMPLETED: Done.",
    crosses(turn, told) {
      turn.status("COMPLETED", "Done.");
      told.refuse();
    },
  },
  "takes its time, and is done then": {
    outcome: `FAILED: ${TOO_LATE}`,
    crosses(turn, told) {
      told.show();
      turn.status("COMPLETED", "Done.");
    },
  },
  cancels: { outcome: `FAILED: ${TOO_LATE}`, crosses: (_, told) => told.obey() },
  refuses: { outcome: `FAILED: ${TOO_LATE}`, crosses: (_, told) => told.refuse() },
};
