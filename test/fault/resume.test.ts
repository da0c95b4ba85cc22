/** A client that watches a task over the end of its server, by force and in peace: it is told everything once. */
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StreamResponse, Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient, sequenceOf, userMessage } from "../../src/sdk/client.ts";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { BACKENDS, createDatabase, pgliteDirectory } from "../store/backends.ts";
import { asTask, failureOf, lineOf } from "./said.ts";
import { type ServerProcess, startServer } from "./server-process.ts";
import { startTcpProxy } from "./tcp-proxy.ts";

// Processes that open a database take their time on a busy machine.
describe.each(BACKENDS)("on %s", { timeout: 90_000 }, (backend) => {
  let dataDir: string;
  let database: Awaited<ReturnType<typeof createDatabase>> | undefined;
  let agent: TestAgent;
  let server: ServerProcess;

  // Each test ends the server and starts it again, and leaves it running for the next.
  beforeAll(async () => {
    dataDir = await pgliteDirectory();
    database = backend === "postgres" ? await createDatabase() : undefined;
    agent = await startTestAgent();
    server = await start();
    await server.client.registry.registerAgent({ source: { case: "cardUrl", value: agent.cardUrl } });
  });
  afterAll(async () => {
    server.signal("SIGKILL");
    await server.exit;
    await agent.close();
    await database?.drop();
    await rm(dataDir, { recursive: true, force: true });
  });

  const start = () => {
    const place = database ? { "database.url": database.url } : { "data.dir": dataDir };
    return startServer({ ...place, "drain.ms": "100", "lease.ms": "1000" });
  };

  test.each(["SIGKILL", "SIGTERM"] as const)("a watcher is told everything once over a %s", async (signal) => {
    const { id } = asTask(await server.client.send("pause 4", { wait: false }));
    // More patience than a busy machine needs to start a server.
    const wire = await startTcpProxy(portOf(server));
    const client = createSignalboxClient({ baseUrl: `http://127.0.0.1:${wire.port}`, reconnects: 60 });
    const items: StreamResponse[] = [];
    const watched = Promise.withResolvers<void>();
    const ended = (async () => {
      for await (const item of client.watch(id, { after: 0 })) {
        items.push(item);
        if (lineOf(item) === "chunk chunk 1;") watched.resolve();
      }
    })();
    await Promise.race([watched.promise, ended]);

    server.signal(signal);
    await server.exit;
    server = await start();
    wire.mend(portOf(server));
    agent.release();
    await ended;
    await wire.close();

    const whole: StreamResponse[] = [];
    for await (const item of server.client.watch(id, { after: 0 })) whole.push(item);
    expect(items).toEqual(whole);
    const sequences = items.map((item) => sequenceOf(item)!);
    expect(sequences).toEqual([...new Set(sequences)].sort((a, b) => a - b));
    expect(lineOf(items.at(-1)!)).toMatch(/^COMPLETED/);
  });

  test("a stream that the server ends says where to go on", async () => {
    // Without the extension, and without a client that goes on by itself.
    const message = userMessage("pause 3");
    const items = server.client.a2a.sendStreamingMessage({ message })[Symbol.asyncIterator]();
    const { payload } = (await items.next()).value as StreamResponse;
    const { id } = payload.value as Task;
    const lines: string[] = [];
    while (lines.at(-1) !== "chunk chunk 1;") lines.push(lineOf((await items.next()).value));
    server.signal("SIGTERM");
    const { reason, metadata } = await failureOf(items.next());
    expect(reason).toBe("DRAINING");
    await server.exit;

    server = await start();
    agent.release();
    const [task, ...rest] = await linesOf(server.client.watch(id, { after: Number(metadata?.sequence) }));
    expect(task).toBe("task WORKING");
    const [, ...whole] = await linesOf(server.client.watch(id, { after: 0 }));
    expect([...lines, ...rest]).toEqual(whole);
    expect(whole.at(-1)).toMatch(/^COMPLETED/);
  });
});

const portOf = ({ httpUrl }: ServerProcess): number => Number(new URL(httpUrl).port);

async function linesOf(items: AsyncIterable<StreamResponse>): Promise<string[]> {
  const lines: string[] = [];
  for await (const item of items) lines.push(lineOf(item));
  return lines;
}
