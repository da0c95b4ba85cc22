/**
 * How soon a watcher that was cut off has the first update that it missed: from dialing anew, with the number of the last
 * update that it has, to that update. What it missed was written meanwhile, and the task goes on.
 */
import { create } from "@bufbuild/protobuf";
import { A2AService, GetTaskRequestSchema, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { call } from "../lab/grpc.ts";
import type { Findings, Lab } from "../lab/lab.ts";
import { latencies } from "../lab/latency.ts";
import { below } from "../lab/report.ts";
import type { ServerProcess } from "../lab/server-process.ts";
import type { A2AAddress } from "./send.ts";
import { type Resume, resumeOverGrpc, resumeOverSse, streamMessage } from "./streams.ts";

const SAMPLES = 200;
const WARM_UP = 50;
/** What the agent `reader` says while the watcher is away. */
const MISSED = Array.from({ length: 8 }, (_, i) => `chunk ${i}`);

export async function resuming(lab: Lab): Promise<Findings> {
  await using server = await lab.start<A2AAddress>("signalbox", "reader", await lab.database.createDatabase());
  const findings = [];
  for (const [name, resume] of [
    ["gRPC", resumeOverGrpc],
    ["server-sent events", resumeOverSse],
  ] as const) {
    const timesMs: number[] = [];
    for (let i = -WARM_UP; i < SAMPLES; i++) {
      lab.signal.throwIfAborted();
      const timeMs = await cutOff(server, resume);
      if (i >= 0) timesMs.push(timeMs);
    }
    findings.push({ name, ...latencies(timesMs) });
  }
  return {
    goals: findings.map(({ name, p50Ms }) =>
      below(`resume over ${name}: median to the first missed update`, p50Ms, 50, "ms"),
    ),
    figures: findings.map(({ name, p50Ms, p99Ms }) => [
      `resume over ${name}, first missed update`,
      `p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms`,
    ]),
  };
}

/** Watches a new task up to its first chunk, is cut off, misses the next chunks, and comes back. In milliseconds. */
async function cutOff(server: ServerProcess<A2AAddress>, resume: Resume): Promise<number> {
  const { address } = server;
  let taskId = "";
  let lastSeen = "";
  for await (const { id, item } of streamMessage(address, "Read it to me.")) {
    if (item.payload.case === "task") taskId = item.payload.value.id;
    lastSeen = id;
    if (chunkOf(item) === "first") break;
  }
  await server.ask("go on");
  const request = create(GetTaskRequestSchema, { id: taskId });
  while (true) {
    const { artifacts } = await call(address, A2AService.method.getTask, request);
    if (artifacts[0]?.parts.length === 1 + MISSED.length) break;
  }

  const dialed = performance.now();
  let timeMs: number | undefined;
  const seen: string[] = [];
  for await (const item of resume(address, taskId, lastSeen)) {
    const chunk = chunkOf(item);
    if (chunk === undefined) continue;
    timeMs ??= performance.now() - dialed;
    if (seen.push(chunk) === MISSED.length) break;
  }
  await server.ask("go on");
  if (timeMs === undefined || seen.join() !== MISSED.join()) throw new Error(`a watcher that came back saw ${seen}`);
  return timeMs;
}

/** The text of the chunk that an item of a stream brings. */
function chunkOf({ payload }: StreamResponse): string | undefined {
  if (payload.case !== "artifactUpdate") return undefined;
  const content = payload.value.artifact?.parts[0]?.content;
  return content?.case === "text" ? content.value : undefined;
}
