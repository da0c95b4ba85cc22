/** Push notifications as clients of @a2a-js/sdk ask for them, and as a webhook receives them. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { StreamResponse, type TaskPushNotificationConfig } from "@a2a-js/sdk";
import { TaskNotFoundError } from "@a2a-js/sdk/errors";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { asTask, collect, lineOf, readUntil, say, shownTask } from "./a2a-js-client.ts";
import { describeEveryWay } from "./a2a-js-lab.ts";

interface Notification {
  headers: IncomingHttpHeaders;
  body: string;
}

/** What was posted to each path of the webhook. */
const inboxes = new Map<string, Inbox<Notification>>();

function inboxAt(path: string): Inbox<Notification> {
  const inbox = inboxes.get(path) ?? createInbox<Notification>();
  inboxes.set(path, inbox);
  return inbox;
}

const webhook = createServer(async (request, response) => {
  const body = await text(request);
  response.end();
  inboxAt(request.url!).put({ headers: request.headers, body });
});

beforeAll(async () => {
  webhook.listen(0, "127.0.0.1");
  await once(webhook, "listening");
});
afterAll(async () => {
  webhook.closeAllConnections();
  webhook.close();
  await once(webhook, "close");
});

describeEveryWay("push notifications", {}, (way) => {
  let path = "";
  let count = 0;

  /** A config for a path of its own. */
  function config(init: Partial<TaskPushNotificationConfig> = {}): TaskPushNotificationConfig {
    path = `/${way.transport}/${way.binding}/${++count}`;
    const url = `http://127.0.0.1:${(webhook.address() as AddressInfo).port}${path}`;
    return { tenant: "", id: "", taskId: "", url, token: "", authentication: undefined, ...init };
  }

  /** Reads as many notifications as there are updates, and expects them to be the same. */
  async function expectNotified(at: string, updates: readonly StreamResponse[]): Promise<Notification[]> {
    const received: Notification[] = [];
    while (received.length < updates.length) received.push(await inboxAt(at).next());
    expect(received.map(({ body }) => StreamResponse.fromJSON(JSON.parse(body)))).toEqual(updates);
    const bodies = received.map(({ body }) => body).join();
    expect([...way.agent.ids].filter((id) => bodies.includes(id))).toEqual([]);
    return received;
  }

  test("are set up, read, listed and deleted", async () => {
    const { client } = way;
    const { id: taskId } = asTask(await client.sendMessage(say("complete")));
    const named = await client.createTaskPushNotificationConfig(
      config({ taskId, id: "mine", token: "t", authentication: { scheme: "Bearer", credentials: "secret" } }),
    );
    expect(named).toMatchObject({ taskId, id: "mine", token: "t" });
    const unnamed = await client.createTaskPushNotificationConfig(config({ taskId }));
    expect(unnamed.id).not.toBe("");
    expect(await client.getTaskPushNotificationConfig({ tenant: "", taskId, id: "mine" })).toEqual(named);
    const listed = await client.listTaskPushNotificationConfig({ tenant: "", taskId, pageSize: 0, pageToken: "" });
    const byId = (a: TaskPushNotificationConfig, b: TaskPushNotificationConfig) => (a.id < b.id ? -1 : 1);
    expect([...listed.configs].sort(byId)).toEqual([named, unnamed].sort(byId));

    const { id } = unnamed;
    await client.deleteTaskPushNotificationConfig({ tenant: "", taskId, id });
    await client.deleteTaskPushNotificationConfig({ tenant: "", taskId, id });
    const gone = client.getTaskPushNotificationConfig({ tenant: "", taskId, id });
    await expect(gone).rejects.toBeInstanceOf(TaskNotFoundError);
    const left = await client.listTaskPushNotificationConfig({ tenant: "", taskId, pageSize: 0, pageToken: "" });
    expect(left.configs).toEqual([named]);
  });

  test("tell of every update, when asked for with the message", async () => {
    const request = say("chunks 3");
    const authentication = { scheme: "Bearer", credentials: "secret-of-the-webhook" };
    request.configuration!.taskPushNotificationConfig = config({ id: "inline", token: "a-token", authentication });
    const items = await collect(way.client.sendMessageStream(request));
    const received = await expectNotified(path, items.slice(1));
    for (const { headers } of received) {
      expect(headers).toMatchObject({
        authorization: "Bearer secret-of-the-webhook",
        "x-a2a-notification-token": "a-token",
      });
      expect(headers["content-type"]).toMatch(/^application\/(a2a\+)?json/);
    }
    const taskId = shownTask(items[0]).id;
    const stored = await way.client.getTaskPushNotificationConfig({ tenant: "", taskId, id: "inline" });
    expect(stored).toMatchObject({ taskId, token: "a-token", authentication });
  });

  test("tell of what comes after they were asked for, until they are deleted", async () => {
    const request = say("pause 2");
    const stream = way.client.sendMessageStream(request);
    const [first] = await readUntil(stream, "story: chunk 1;");
    const taskId = shownTask(first).id;
    const kept = await way.client.createTaskPushNotificationConfig(config({ taskId }));
    const keptPath = path;
    const deleted = await way.client.createTaskPushNotificationConfig(config({ taskId }));
    const deletedPath = path;
    expect(kept.id).not.toBe(deleted.id);
    await way.client.deleteTaskPushNotificationConfig({ tenant: "", taskId, id: deleted.id });

    (await way.agent.turn(request.message.messageId)).release();
    const rest = await collect(stream);
    expect(rest.map(lineOf)).toEqual(["+story: chunk 2; (last)", "COMPLETED: The end."]);
    await expectNotified(keptPath, rest);
    expect(inboxAt(deletedPath).waiting).toBe(0);
  });
});
