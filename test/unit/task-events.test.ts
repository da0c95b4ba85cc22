/** How many streams of all tasks a server has, and one principal of them. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { WatchTasksRequestSchema } from "../../gen/signalbox/v1/task_pb.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createTaskEvents } from "../../src/services/task-events.ts";

const { watch } = createTaskEvents({
  reads: {
    present: async () => ({ xid: "1", taskId: "", seq: 0 }),
    hasBegun: async () => true,
    read: async (_workspaceId, position) => ({ rows: [], position, more: false, held: false }),
  },
  hub: { onCommit: () => () => {}, onHint: () => () => {} },
  runtime: systemRuntime(),
});

/** A stream that has given its first item. */
async function open(id: string, workspaceId = "default") {
  const context = {
    workspaceId,
    principal: { id, roles: new Set<string>(), scopes: new Set<string>() },
    signal: new AbortController().signal,
  } as unknown as RequestContext;
  const stream = watch(context, create(WatchTasksRequestSchema), "")[Symbol.asyncIterator]();
  await stream.next();
  return stream;
}
const all = (count: number, id: string, workspaceId?: string) =>
  Promise.all(Array.from({ length: count }, () => open(id, workspaceId)));
const full = (limit: string) => ({ code: "RESOURCE_EXHAUSTED", reason: "TOO_MANY_WATCHERS", metadata: { limit } });

test("one principal leaves streams to the others, and a closed stream gives its place back", async () => {
  const [first] = await all(16, "alice");
  await expect(open("alice")).rejects.toMatchObject(full("16"));
  await all(16, "bob");
  await all(16, "alice", "another");
  await first!.return!();
  await open("alice");
  await expect(open("alice")).rejects.toMatchObject(full("16"));
  await all(16, "carol");
  await expect(open("dave")).rejects.toMatchObject(full("64"));
});
