/** A server that is killed with -9 while it posts push notifications: the next one posts what it has not. */
import { rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { userMessage } from "../../src/sdk/client.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { BACKENDS, createDatabase, pgliteDirectory } from "../store/backends.ts";
import { asTask, lineOf } from "./said.ts";
import { type ServerProcess, startServer } from "./server-process.ts";
import { startWebhook, type Webhook } from "./webhook.ts";

const CHUNKS = 40;

describe.each(BACKENDS)("push notifications after kill -9 on %s", (backend) => {
  let dataDir: string;
  let url: string | undefined;
  let drop: (() => Promise<void>) | undefined;
  let agent: TestAgent;
  let webhook: Webhook;
  let server: ServerProcess;

  beforeEach(async () => {
    dataDir = await pgliteDirectory();
    if (backend === "postgres") ({ url, drop } = await createDatabase());
    agent = await startTestAgent();
    webhook = await startWebhook();
    server = await start();
    await server.client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
  });
  afterEach(async () => {
    server.signal("SIGKILL");
    await server.exit;
    await webhook.close();
    await agent.close();
    await drop?.();
    await rm(dataDir, { recursive: true, force: true });
  });

  const start = () =>
    startServer({ "data.dir": dataDir, "lease.ms": "1000", ...(url !== undefined && { "database.url": url }) });

  async function posts(count: number): Promise<string[]> {
    const lines: string[] = [];
    for (let n = 0; n < count; n++) lines.push(lineOf((await webhook.next()).body));
    return lines;
  }

  test("come from where they were, in order, with nothing but what was under way twice", async () => {
    const kills = [1, 25];
    const request = create(SendMessageRequestSchema, {
      message: userMessage(`chunks ${CHUNKS}`),
      configuration: { taskPushNotificationConfig: { url: webhook.url } },
    });
    webhook.answer(...Array<200>(kills[0]!).fill(200), "silence");
    const { payload } = await server.client.a2a.sendMessage(request);
    const task = asTask(payload.value!);
    const artifacts = task.artifacts.flatMap(({ parts }) => parts);
    expect(artifacts).toHaveLength(CHUNKS);

    let heard: string[] = [];
    for (const [i, done] of kills.entries()) {
      heard = [...heard, ...(await posts(done - heard.length))];
      const underWay = await posts(1);
      webhook.answer(...Array<200>((kills[i + 1] ?? 1000) - done).fill(200), "silence");
      server.signal("SIGKILL");
      await server.exit;
      server = await start();
      expect(await posts(1)).toEqual(underWay);
      heard.push(...underWay);
    }
    for (let line = ""; !line.startsWith("COMPLETED"); heard.push(line)) [line] = (await posts(1)) as [string];
    const chunks = heard.filter((line) => line.startsWith("chunk"));
    expect(chunks).toHaveLength(CHUNKS);
    expect(new Set(chunks).size).toBe(CHUNKS);
    expect(heard.at(-1)).toMatch(/^COMPLETED/);
  });
});
