import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from "vitest";
import type { AgentCard } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type RemotePuppet, startRemotePuppet } from "../agents/remote-puppet.ts";
import { cardOf, type RogueAgent, startRogueHttp, startRogueHttp2 } from "../agents/rogue-agent.ts";
import { type Binding, startTestAgent } from "../agents/test-agent.ts";
import { portOf, through, urlOf } from "../fault/agent-lab.ts";
import { asTask, lineOf, statusOf, textOf } from "../fault/said.ts";
import { startTcpProxy } from "../fault/tcp-proxy.ts";
import { stablePort } from "../setup/stable-port.ts";
import { BACKENDS } from "../store/backends.ts";
import { logLines } from "../store/log-lines.ts";
import { journalOf, linesOf, pathOf, reaches, restOf } from "./journal.ts";
import { startTestApp } from "./running-app.ts";

const BINDINGS = ["GRPC", "JSONRPC", "HTTP+JSON"] as const satisfies readonly Binding[];
const ATTEMPTS = 3;
const UNREACHABLE = "The agent could not be reached: nothing listens at its address.";

describe.each(BACKENDS)("on %s", (backend) => {
  const closing: (() => Promise<void>)[] = [];
  /** Of a server that gives up soon, and of one that has more patience than any test. */
  let client: SignalboxClient;
  let patient: SignalboxClient;
  const logged = logLines();
  let agents = 0;

  async function start(attempts: number): Promise<SignalboxClient> {
    const flags = {
      "task.attempts": String(attempts),
      "task.retry-min-ms": "20",
      "task.retry-max-ms": "1000",
      "task.silence-ms": "60000",
    };
    const app = await startTestApp({ backend, flags, log: logged.log });
    closing.push(() => app.stop());
    return createSignalboxClient({ baseUrl: app.httpUrl });
  }

  beforeAll(async () => {
    client = await start(ATTEMPTS);
    patient = await start(100);
  });
  afterAll(async () => {
    for (const close of closing) await close();
  });
  beforeEach(() => {
    logged.lines.length = 0;
  });

  async function register(card: AgentCard, safeToRepeat = false, server = client): Promise<string> {
    const agentId = `agent-${++agents}`;
    await server.registry.registerAgent({ agentId, source: { case: "card", value: card }, safeToRepeat });
    return agentId;
  }

  describe.each(BINDINGS)("an agent over %s", (binding) => {
    test("that comes up late gets the task in a later attempt", async () => {
      const port = await stablePort();
      const real = await startTestAgent({ bindings: [binding] });
      onTestFinished(() => real.close());
      const agent = await register(through(real.card, port), false, patient);
      const { id } = asTask(await patient.send("complete", { agent, wait: false }));
      await logged.until("an attempt failed");
      const proxy = await startTcpProxy(portOf(real.card), port);
      onTestFinished(() => proxy.close());
      expect(statusOf(await patient.waitFor(id))).toBe("COMPLETED: Done.");
      expect(real.received).toHaveLength(1);
      const steps = await journalOf(patient, id);
      const { attempt } = steps.at(-1)!;
      expect(attempt).toBeGreaterThan(1);
      const failed = steps.filter(({ state }) => state === "SCHEDULED");
      expect(failed.map((step) => step.attempt)).toEqual(Array.from({ length: attempt - 1 }, (_, i) => i + 1));
      for (const { attempt: n, cause } of failed)
        expect(cause).toContain(`attempt ${n} failed: unreachable: ${UNREACHABLE}; the next one is due in`);
    });

    test("that never comes up fails the task when no attempt is left", async () => {
      const agent = await register(cardOf(binding, urlOf(binding, await stablePort())));
      const task = asTask(await client.send("anyone?", { agent }));
      expect(statusOf(task)).toBe(`FAILED: ${UNREACHABLE}`);
      const retries = [1, 2].flatMap((n) => [`SCHEDULED ${n}`, `ASSIGNED ${n + 1}`]);
      expect(await pathOf(client, task.id)).toEqual(["ASSIGNED 1", ...retries, `FAILED ${ATTEMPTS}`]);
      expect((await journalOf(client, task.id)).at(-1)!.cause).toBe(`unreachable: ${UNREACHABLE}`);
    });

    test.each([
      ["not declared safe to repeat gets the task once", false, 1],
      ["safe to repeat gets it as often as there are attempts", true, ATTEMPTS],
    ])("that hangs up on requests and is %s", async (_, safe, times) => {
      let requests = 0;
      const rogue = await startHangingUp(binding, () => requests++);
      onTestFinished(() => rogue.close());
      const agent = await register(cardOf(binding, urlOf(binding, rogue.port)), safe);
      const task = asTask(await client.send("hello", { agent }));
      expect(statusOf(task)).toMatch(/^FAILED: The connection to the agent broke/);
      expect(requests).toBe(times);
      const steps = await journalOf(client, task.id);
      expect(steps.at(-1)).toMatchObject({ state: "FAILED", attempt: times });
      expect(steps.filter(({ cause }) => cause.startsWith("attempt")).length).toBe(times - 1);
    });
  });

  describe("an agent that forgets", () => {
    let puppet: RemotePuppet;
    beforeEach(async () => {
      puppet = await startRemotePuppet();
      return () => puppet.close();
    });

    /** A task that the agent has begun, and a watcher who has seen it. */
    async function begun(agent: string) {
      const { id } = asTask(await client.send("begin", { agent, wait: false }));
      const turn = await puppet.turn();
      const lines = linesOf(client.watch(id, { after: 0 }));
      turn.name();
      turn.status("WORKING", "One.");
      await reaches(client, id, "WORKING: One.");
      const forget = () => {
        puppet.forget(turn.taskId);
        turn.hangUp();
      };
      return { id, turn, lines, forget };
    }

    test("gets the task again, and who saw it WORKING never sees it SUBMITTED", async () => {
      const { id, lines, forget, turn } = await begun(await register(puppet.card, true));
      turn.status("AUTH_REQUIRED", "Who?");
      await reaches(client, id, "AUTH_REQUIRED");
      forget();
      const again = await puppet.turn();
      expect(again.text).toBe("begin");
      expect(again.taskId).not.toBe(turn.taskId);
      expect(statusOf(await client.a2a.getTask({ id }))).toBe("WORKING");
      again.name("SUBMITTED");
      again.chunk("done");
      again.status("WORKING", "Two.");
      again.status("COMPLETED");
      const shown = await restOf(lines);
      expect(shown.filter((line) => line.includes("SUBMITTED"))).toEqual(["task SUBMITTED"]);
      expect(shown.slice(-6)).toEqual([
        "AUTH_REQUIRED: Who?",
        "WORKING",
        "chunk done",
        "WORKING: Two.",
        "COMPLETED",
        "end",
      ]);
      expect(await pathOf(client, id)).toEqual([
        "ASSIGNED 1",
        "WORKING 1",
        "AUTH_REQUIRED 1",
        "WORKING 1",
        "SCHEDULED 1",
        "ASSIGNED 2",
        "WORKING 2",
        "COMPLETED 2",
      ]);
    });

    test("fails the task when it is not safe to repeat", async () => {
      const { id, forget } = await begun(await register(puppet.card));
      forget();
      expect(await reaches(client, id, "FAILED")).toBe("FAILED: The agent no longer knows this task.");
      expect(puppet.heard).toEqual(["begin"]);
    });

    test("fails a task whose client has said more than its first message", async () => {
      const { id, forget } = await begun(await register(puppet.card, true));
      const more = client.send("more", { taskId: id });
      await puppet.turn();
      forget();
      expect(statusOf(asTask(await more))).toBe("FAILED: The agent no longer knows this task.");
      expect(puppet.heard).toEqual(["begin", "more"]);
      expect((await journalOf(client, id)).at(-1)).toMatchObject({ state: "FAILED", attempt: 1 });
    });
  });

  test("a task that nobody has seen stays hidden through its attempts, for a bare Message in the end", async () => {
    const port = await stablePort();
    const puppet = await startRemotePuppet();
    onTestFinished(() => puppet.close());
    const agent = await register(through(puppet.card, port), false, patient);
    const answers = [patient.send("hello", { agent }), firstLine(patient.stream("hello", { agent }))] as const;
    await logged.until("an attempt failed");
    expect((await patient.a2a.listTasks({ tenant: `a.${agent}` })).tasks).toEqual([]);
    const proxy = await startTcpProxy(portOf(puppet.card), port);
    onTestFinished(() => proxy.close());
    for (const _ of answers) {
      const turn = await puppet.turn();
      expect((await patient.a2a.listTasks({ tenant: `a.${agent}` })).tasks).toEqual([]);
      turn.reply("Hello.");
    }
    expect(textOf(await answers[0])).toBe("Hello.");
    expect(await answers[1]).toBe("message Hello.");
    expect((await patient.a2a.listTasks({ tenant: `a.${agent}` })).tasks).toEqual([]);
  });
});

/** An agent that breaks the connection when a request has come. */
function startHangingUp(binding: Binding, onRequest: () => void): Promise<RogueAgent> {
  if (binding !== "GRPC") {
    return startRogueHttp((request) => {
      onRequest();
      request.resume().once("end", () => request.socket.resetAndDestroy());
    });
  }
  return startRogueHttp2((stream) => {
    onRequest();
    stream.session?.destroy();
  });
}

async function firstLine(items: ReturnType<SignalboxClient["stream"]>): Promise<string | undefined> {
  for await (const item of items) return lineOf(item);
  return undefined;
}
