/** Signalbox as one agent: clients of @a2a-js/sdk find it by its own card, and never learn who works behind it. */
import type { AgentCard } from "@a2a-js/sdk";
import { A2AError, TaskNotFoundError } from "@a2a-js/sdk/errors";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { asTask, collect, connect, lineOf, say, shownTask, statusOf, TRANSPORTS } from "./a2a-js-client.ts";

let app: TestApp;
let agent: TestAgent;
let other: TestAgent;

beforeAll(async () => {
  agent = await startTestAgent();
  other = await startTestAgent({ name: "Other", skills: [{ id: "other", name: "Other", description: "-", tags: [] }] });
  app = await startTestApp();
  await app.register("lone", { cardUrl: agent.cardUrl });
});
afterAll(async () => {
  await app.stop();
  await agent.close();
  await other.close();
});

describe.each(TRANSPORTS)("over %s", (transport) => {
  test("the lone agent is reached by the card of the router", async () => {
    const client = await connect(app.httpUrl, transport);
    expect(client.transport.protocolName).toBe(transport);
    const card: AgentCard = await client.getAgentCard();
    expect(card).toMatchObject({ name: "Signalbox", skills: [{ id: "behave" }] });

    const items = await collect(client.sendMessageStream(say("chunks 2")));
    expect(lineOf(items.at(-1)!)).toBe("COMPLETED: The end.");
    const asked = asTask(await client.sendMessage(say("ask")));
    const answered = asTask(await client.sendMessage(say("blue", { taskId: asked.id })));
    expect(statusOf(answered)).toBe("COMPLETED: You said: blue");

    const direct = await connect(`${app.httpUrl}/agents/lone`, transport);
    for (const { id } of [shownTask(items[0]), answered]) {
      const task = await client.getTask({ tenant: "", id });
      expect(await direct.getTask({ tenant: "", id })).toEqual(task);
    }
  });
});

describe("with a second agent", () => {
  beforeAll(async () => {
    await app.register("other", { cardUrl: other.cardUrl });
  });

  test.each(TRANSPORTS)("over %s, each has its own tasks, and a message must name one of them", async (transport) => {
    const [router, lone, second] = await Promise.all(
      ["", "/agents/lone", "/agents/other"].map((path) => connect(app.httpUrl + path, transport)),
    );
    const refused = router!.sendMessage(say("complete"));
    await expect(refused).rejects.toBeInstanceOf(A2AError);
    await expect(refused).rejects.toThrow(/Behave \(c\.behave\), Other \(c\.other\)/);

    const { id, contextId } = asTask(await second!.sendMessage(say("complete")));
    const unseen = lone!.getTask({ tenant: "", id });
    await expect(unseen).rejects.toBeInstanceOf(TaskNotFoundError);
    const filter = { tenant: "", contextId, status: 0, pageToken: "", statusTimestampAfter: undefined };
    const lists = await Promise.all([router!, lone!, second!].map((client) => client.listTasks(filter)));
    expect(lists.map(({ tasks }) => tasks.map((task) => task.id))).toEqual([[id], [], [id]]);
  });
});
