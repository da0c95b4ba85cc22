/** How far many logs have come, in one statement. */
import { beforeAll, expect, test } from "vitest";
import type { TaskKey } from "../../src/store/task-reads.ts";
import { type HintingReplica, startHintingReplica } from "../fixtures/hinting-replica.ts";
import { describeEachBackend } from "./backends.ts";

const keysOf = (...taskIds: string[]): TaskKey[] => taskIds.map((taskId) => ({ workspaceId: "default", taskId }));

describeEachBackend("the last numbers of logs", (context) => {
  let replica: HintingReplica;
  beforeAll(async () => {
    replica = await startHintingReplica(context.db);
    return () => replica.stop();
  });

  test("are those of the tasks that exist, in their workspace alone", async () => {
    const [one, two] = [await replica.begin(), await replica.begin()];
    await two.append(3);
    const numbers = await replica.store.lastNumbers([
      ...keysOf(two.taskId, "unknown", one.taskId),
      { workspaceId: "stranger", taskId: one.taskId },
    ]);
    expect(new Set(numbers)).toEqual(
      new Set([
        { workspaceId: "default", taskId: one.taskId, seq: 1 },
        { workspaceId: "default", taskId: two.taskId, seq: 4 },
      ]),
    );
    expect(await replica.store.lastNumbers([])).toEqual([]);
  });
});
