/** A task that is canceled before its agent has named it: the agent is told as soon as it does, whatever else it says. */
import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { StreamResponseSchema, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { openLab, said, taskIn, workingAgent } from "./engine-lab.ts";

const works = create(StreamResponseSchema, {
  payload: {
    case: "statusUpdate",
    value: { taskId: "theirs-1", contextId: "theirs", status: { state: TaskState.WORKING } },
  },
});

it.each([
  ["its name alone", []],
  ["its name and one thing more", [works]],
])("keeps the way to an agent that says %s until it was told", async (_what, more) => {
  const speaks = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const answers = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  const events: string[] = [];
  const start = await openLab();
  const replica = await start(
    workingAgent({
      async *sendStream() {
        await speaks.promise;
        yield said(taskIn("theirs-1", TaskState.WORKING));
        yield* more;
        ended.resolve();
      },
      async cancel(id) {
        asked.resolve();
        await answers.promise;
        events.push("told");
        return taskIn(id, TaskState.CANCELED);
      },
      release() {
        events.push("released");
        released.resolve();
      },
    }),
  );
  await replica.cancel(await replica.begin());
  speaks.resolve();
  await Promise.all([asked.promise, ended.promise]);
  // Whoever goes on without waiting has gone on by then.
  for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate);
  const stopped = replica.dispatcher.stop(60_000);
  answers.resolve();
  await Promise.all([stopped, released.promise]);
  expect(events).toEqual(["told", "released"]);
});
