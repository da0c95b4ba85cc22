/**
 * What a unary call costs the gRPC listener: calls per second of Health.Check, and of GetTask of a stored task, beside a
 * bare HTTP/2 echo and connect-node's own gRPC on the same core. Rounds are interleaved: a machine that slows down slows all.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  Health,
  HealthCheckRequestSchema,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/grpc/health/v1/health_pb.ts";
import { A2AService, GetTaskRequestSchema, TaskState } from "../gen/lf/a2a/v1/a2a_pb.ts";
import { divideCores } from "./lab/cores.ts";
import { openDatabaseServer } from "./lab/database.ts";
import { call, frame, pathOf } from "./lab/grpc.ts";
import { createLoadGenerator } from "./lab/load.ts";
import { CONNECTIONS, type LoadRequest } from "./lab/load-request.ts";
import { atLeast, type Benchmark, median } from "./lab/report.ts";
import { type ServerAddress, startServer } from "./lab/server-process.ts";
import { versions } from "./lab/versions.ts";

const ROUNDS = 5;
const ROUND = { inFlight: 64, durationMs: 1_200 };
const WARM_UP = { inFlight: 64, durationMs: 1_500 };

interface SignalboxAddress extends ServerAddress {
  httpUrl: string;
}

export const bench: Benchmark = async (signal) => {
  const cores = divideCores();
  await using stack = new AsyncDisposableStack();
  const start = async <A extends ServerAddress = ServerAddress>(name: string, ...args: string[]) =>
    stack.use(await startServer<A>(name, { cores, args, signal })).address;

  const load = stack.use(await createLoadGenerator());
  const database = stack.use(await openDatabaseServer());
  const echo = await start("http2-echo");
  const connect = await start("connect-node");
  const onPostgres = await start<SignalboxAddress>("signalbox", "scribe", await database.createDatabase());
  const onPglite = await start<SignalboxAddress>("signalbox", "scribe");

  const measured = {
    echo: { name: "raw HTTP/2 echo", request: { ...healthCheck(echo), path: "/echo" } },
    connect: { name: "Health.Check, connect-node", request: await checkedHealth(connect) },
    health: { name: "Health.Check, Signalbox", request: await checkedHealth(onPostgres) },
    getTask: { name: "GetTask, Signalbox on PostgreSQL", request: await checkedGetTask(onPostgres) },
    pgliteGetTask: { name: "GetTask, Signalbox on PGlite", request: await checkedGetTask(onPglite) },
  };
  type Target = keyof typeof measured;
  const targets = Object.entries(measured) as [Target, { name: string; request: LoadRequest }][];

  for (const [, { request }] of targets) await load.run(request, WARM_UP, signal);
  const rates: Record<Target, number[]> = { echo: [], connect: [], health: [], getTask: [], pgliteGetTask: [] };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [target, { request }] of targets) {
      rates[target].push((await load.run(request, ROUND, signal)).perSecond);
    }
  }
  for (const { httpUrl } of [onPostgres, onPglite]) await expectNoFailedCalls(httpUrl);

  /** Of the echo in the same round. */
  const share = (target: Target) => median(rates[target].map((rate, round) => rate / rates.echo[round]!));
  return {
    goals: [
      atLeast("Health.Check / raw HTTP/2 echo", share("health"), 0.4, "ratio"),
      atLeast("GetTask / raw HTTP/2 echo", share("getTask"), 0.2, "ratio"),
    ],
    figures: targets.map(([target, { name }]) => [
      name,
      `${Math.round(median(rates[target]))} calls/s, ${share(target).toFixed(2)} of the echo`,
    ]),
    conditions: [
      ["database", `${database.description}; PGlite`],
      ["cores", cores.description],
      ["versions", versions("@grpc/grpc-js", "@connectrpc/connect-node", "pg", "@electric-sql/pglite")],
      ["load", `${ROUND.inFlight} calls in flight, ${load.description}`],
      ["rounds", `${ROUNDS} of ${ROUND.durationMs} ms each, interleaved; medians`],
    ],
  };
};

const healthCheck = ({ authority }: ServerAddress): LoadRequest => ({
  authority,
  protocol: "grpc",
  path: pathOf(Health.method.check),
  bodies: [frame(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema)))],
});

/** A gRPC server may answer HTTP 200 and fail: one call is looked at first. */
async function checkedHealth(address: ServerAddress): Promise<LoadRequest> {
  const { status } = await call(address, Health.method.check, create(HealthCheckRequestSchema));
  if (status !== Status.SERVING) throw new Error(`Health.Check answers ${status}`);
  return healthCheck(address);
}

/** A stored task for each connection, so that no read serves all callers at once. */
async function checkedGetTask({ authority, httpUrl }: SignalboxAddress): Promise<LoadRequest> {
  const bodies: Uint8Array[] = [];
  while (bodies.length < CONNECTIONS) {
    const request = create(GetTaskRequestSchema, { id: await storeTask(httpUrl) });
    const { status, artifacts, history } = await call({ authority }, A2AService.method.getTask, request);
    if (status?.state !== TaskState.COMPLETED || artifacts.length !== 1 || history.length !== 1) {
      throw new Error("GetTask does not answer with the task as it was stored");
    }
    bodies.push(frame(toBinary(GetTaskRequestSchema, request)));
  }
  return { authority, protocol: "grpc", path: pathOf(A2AService.method.getTask), bodies };
}

/** Sends a message as any client does, and returns the id of its task. */
async function storeTask(httpUrl: string): Promise<string> {
  const message = { messageId: crypto.randomUUID(), role: "ROLE_USER", parts: [{ text: "Say it in one sentence." }] };
  const answer = await fetch(`${httpUrl}/message:send`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ message }),
  });
  if (!answer.ok) throw new Error(`no task was made: ${await answer.text()}`);
  const { task } = (await answer.json()) as { task: { id: string } };
  return task.id;
}

/** Throws when any call to a Signalbox did not end with OK, by its own metrics. */
async function expectNoFailedCalls(httpUrl: string): Promise<void> {
  const page = await (await fetch(`${httpUrl}/metrics`)).text();
  const failed = page
    .split("\n")
    .filter((line) => line.startsWith("signalbox_rpc_duration_seconds_count") && !line.includes('code="OK"'));
  if (failed.length > 0) throw new Error(`calls have failed under load:\n${failed.join("\n")}`);
}
