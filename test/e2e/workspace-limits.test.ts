/** Limits of a workspace, as clients meet them: over every transport, and over two servers on one database. */
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { A2AService } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { asTask } from "../fault/said.ts";
import { startTwoReplicas, type TwoReplicas } from "./two-replicas.ts";

let servers: TwoReplicas;
let sql: pg.Client;

beforeAll(async () => {
  servers = await startTwoReplicas();
  sql = new pg.Client(servers.databaseUrl);
  await sql.connect();
});
afterAll(async () => {
  await sql?.end();
  await servers?.close();
});

/** Sets the quotas of the workspace, and waits until both servers go by them. */
async function setQuotas(quotas: object | null): Promise<void> {
  await sql.query(
    "update workspaces set quotas = $1, quotas_revision = quotas_revision + 1 where workspace_id = 'default'",
    [quotas && JSON.stringify(quotas)],
  );
  // Nobody holds them for longer than a second.
  const since = performance.now();
  await expect.poll(() => performance.now() - since, { timeout: 3_000 }).toBeGreaterThan(1_100);
}

const get = (url: string) => fetch(`${url}/tasks`, { headers: { "a2a-version": "1.0" } });
const both = () => [servers.a, servers.b];

/** What a refusal says, over gRPC. */
async function refusalOf(call: () => Promise<unknown>) {
  const error = await call().then(
    () => undefined,
    (thrown: unknown) => ConnectError.from(thrown),
  );
  const [info] = error?.findDetails(ErrorInfoSchema) ?? [];
  const [retry] = error?.findDetails(RetryInfoSchema) ?? [];
  return { code: error?.code, reason: info?.reason, metadata: info?.metadata, retry, message: error?.rawMessage };
}

describe("calls a second of a principal", () => {
  it("are not refused for longer than what was said", async () => {
    await setQuotas({ principalCallsPerSecond: 1 });
    let refused: Response | undefined;
    for (let i = 0; i < 20 && !refused; i++) {
      const answer = await get(servers.a.httpUrl);
      if (answer.status === 429) refused = answer;
    }
    expect(refused?.headers.get("retry-after")).toBe("1");
    await expect.poll(async () => (await get(servers.a.httpUrl)).status, { interval: 300, timeout: 5_000 }).toBe(200);
    await setQuotas(null);
  });

  it("are refused beyond the limit by 429 with retry-after, over both servers together", async () => {
    await setQuotas({ principalCallsPerSecond: 5 });
    // A window of the test's own, that does not end while it looks.
    await sql.query(
      "insert into rate_windows values ('call default anonymous', 0, clock_timestamp() + interval '20 seconds') on conflict (rate_key) do update set points = 0, ends_at = excluded.ends_at",
    );
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => get(both()[i % 2]!.httpUrl)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(5);
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused).toHaveLength(7);
    for (const answer of refused) {
      const retry = Number(answer.headers.get("retry-after"));
      expect(retry).toBeGreaterThanOrEqual(1);
      expect(retry).toBeLessThanOrEqual(20);
      const { error } = (await answer.json()) as { error: { status: string; message: string; details: object[] } };
      expect(error.status).toBe("RESOURCE_EXHAUSTED");
      expect(error.message).toMatch(/5 calls a second.*try again in \d+ ms/);
      expect(error.details).toContainEqual(
        expect.objectContaining({
          reason: "RATE_LIMITED",
          domain: "signalbox",
          metadata: { limit: "principal_calls_per_second", max: "5" },
        }),
      );
    }
    const grpc = createClient(A2AService, createGrpcTransport({ baseUrl: `http://${servers.a.grpcAddress}` }));
    expect(await refusalOf(() => grpc.listTasks({}))).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "RATE_LIMITED",
      metadata: { limit: "principal_calls_per_second", max: "5" },
      retry: expect.objectContaining({ retryDelay: expect.anything() }),
    });
    // Connect answers unary calls as plain HTTP: what stands between goes by the header.
    const connect = await fetch(`${servers.a.httpUrl}/lf.a2a.v1.A2AService/ListTasks`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect([connect.status, Number(connect.headers.get("retry-after")) >= 1]).toEqual([429, true]);
    // Health is not counted.
    const health = createClient(Health, createGrpcTransport({ baseUrl: `http://${servers.a.grpcAddress}` }));
    expect((await health.check({})).status).toBe(1);
    const metrics = await (await fetch(`${servers.a.httpUrl}/metrics`)).text();
    const counted = /^signalbox_limited_total\{limit="principal_calls_per_second"\} (\d+)$/m.exec(metrics)?.[1];
    expect(Number(counted)).toBeGreaterThanOrEqual(2);
    await setQuotas(null);
    await sql.query("delete from rate_windows");
    expect((await get(servers.a.httpUrl)).status).toBe(200);
  });
});

describe("new tasks a second", () => {
  it("are refused beyond the limit; what was sent before is shown again for nothing", async () => {
    await setQuotas({ tasksPerSecond: 2 });
    await sql.query(
      "insert into rate_windows values ('task default', 0, clock_timestamp() + interval '20 seconds') on conflict (rate_key) do update set points = 0, ends_at = excluded.ends_at",
    );
    const send = (key: string, { client } = servers.a) => client.send(key, { wait: false, idempotencyKey: key });
    const first = asTask(await send("one"));
    asTask(await send("two", servers.b));
    expect(await refusalOf(() => send("three"))).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "RATE_LIMITED",
      metadata: { limit: "tasks_per_second", max: "2" },
    });
    expect(asTask(await send("one", servers.b)).id).toBe(first.id);
    await setQuotas(null);
    await sql.query("delete from rate_windows");
    // It was never begun, so it can be.
    asTask(await send("three"));
  });
});

describe("tasks in flight", () => {
  it("are refused beyond the quota, and a task that is canceled at another server makes room", async () => {
    for (const row of (await sql.query("select task_id from tasks where state not in (3, 4, 5, 7)")).rows) {
      await servers.a.client.a2a.cancelTask({ id: row.task_id as string }).catch(() => {});
    }
    await setQuotas({ tasksInFlight: 2 });
    const send = ({ client } = servers.a) => client.send("work", { wait: false }).then(asTask);
    const tasks = [await send(), await send(servers.b)];
    expect(await refusalOf(() => send())).toMatchObject({
      code: Code.ResourceExhausted,
      reason: "QUOTA_EXCEEDED",
      metadata: { limit: "tasks_in_flight", max: "2", used: "2" },
    });
    // An agent that nobody has costs no place: the message is refused after the place was taken.
    expect(await refusalOf(() => servers.a.client.send("x", { agent: "nobody", wait: false }))).toMatchObject({
      reason: expect.stringMatching(/QUOTA_EXCEEDED|NOT_FOUND/),
    });
    await servers.b.client.a2a.cancelTask({ id: tasks[0]!.id });
    await expect
      .poll(
        () =>
          send().then(
            () => "begun",
            () => "refused",
          ),
        { timeout: 5_000 },
      )
      .toBe("begun");
    for (let i = 0; i < 3; i++) {
      expect((await refusalOf(() => servers.b.client.send("x", { agent: "nobody", wait: false }))).code).toBeDefined();
    }
    await setQuotas(null);
  });

  it("gives a place back that was taken for a task that is refused afterwards", async () => {
    for (const row of (await sql.query("select task_id from tasks where state not in (3, 4, 5, 7)")).rows) {
      await servers.a.client.a2a.cancelTask({ id: row.task_id as string }).catch(() => {});
    }
    await setQuotas({ tasksInFlight: 1 });
    for (let i = 0; i < 5; i++) {
      const refusal = await refusalOf(() => servers.a.client.send("x", { agent: "nobody", wait: false }));
      expect(refusal.reason).not.toBe("QUOTA_EXCEEDED");
    }
    asTask(await servers.a.client.send("work", { wait: false }));
    await setQuotas(null);
  });
});

describe("streams", () => {
  const open = async ({ httpUrl }: { httpUrl: string }) => {
    const controller = new AbortController();
    const response = await fetch(`${httpUrl}/v1/tasks:watch`, { signal: controller.signal });
    return { response, close: () => controller.abort() };
  };

  it("are refused beyond the quota over both servers, and one that closes makes room", async () => {
    await setQuotas({ streams: 2 });
    const opened = [await open(servers.a), await open(servers.b)];
    for (const { response } of opened) expect(response.status).toBe(200);
    const third = await open(servers.a);
    expect(third.response.status).toBe(429);
    expect(third.response.headers.get("retry-after")).toBe("1");
    const body = (await third.response.json()) as { error: { details: { metadata?: object }[] } };
    expect(body.error.details).toContainEqual(
      expect.objectContaining({ reason: "QUOTA_EXCEEDED", metadata: { limit: "streams", max: "2" } }),
    );
    opened[1]!.close();
    await expect
      .poll(
        async () => {
          const again = await open(servers.a);
          if (again.response.status === 200) opened.push(again);
          return again.response.status;
        },
        { timeout: 8_000, interval: 200 },
      )
      .toBe(200);
    for (const { close } of opened) close();
    await setQuotas(null);
  });
});

describe("stored bytes", () => {
  it("are counted, refuse messages when there are too many, and are fewer again when tasks are removed", async () => {
    const text = "x".repeat(400_000);
    for (let i = 0; i < 3; i++) asTask(await servers.a.client.send(text, { wait: false }));
    await setQuotas({ storedBytes: "1048576" });
    const refusal = () => refusalOf(() => servers.a.client.send("one more", { wait: false }));
    await expect.poll(async () => (await refusal()).reason, { timeout: 30_000, interval: 500 }).toBe("QUOTA_EXCEEDED");
    const said = await refusal();
    expect(said).toMatchObject({ code: Code.ResourceExhausted, metadata: { limit: "stored_bytes", max: "1048576" } });
    expect(Number(said.metadata?.used)).toBeGreaterThan(1_200_000);
    for (const row of (await sql.query("select task_id from tasks where state not in (3, 4, 5, 7)")).rows) {
      await servers.a.client.a2a.cancelTask({ id: row.task_id as string }).catch(() => {});
    }
    await servers.a.client.tasks.cleanupTasks({ olderThanSeconds: 0n });
    await expect.poll(async () => (await refusal()).reason, { timeout: 40_000, interval: 500 }).toBeUndefined();
    await setQuotas(null);
  }, 90_000);
});
