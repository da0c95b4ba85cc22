/** Replicas and their leases: one owner at a time for each task, and none that is forgotten. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { createLeaseRepository } from "../../src/store/lease-repository.ts";
import { describeEachBackend } from "./backends.ts";
import { begin, leaseCommands } from "./lease-model.ts";
import { emptyTables, expectWholeLogs } from "./tables.ts";

describeEachBackend("leases", (context) => {
  it("go from one replica to another as the model says, whatever happens in whatever order", async () => {
    const counts = { tasks: 0, taken: 0 };
    let run = 0;
    await fc.assert(
      fc.asyncProperty(leaseCommands, async (commands) => {
        await emptyTables(context.db);
        run += 1;
                const real = { db: context.db, leases: createLeaseRepository(context.db), run: `run-${run}` };
        const model = await begin(real);
        await fc.asyncModelRun(() => ({ model, real }), commands);
        await expectWholeLogs(context.db);
        counts.tasks += model.tasks.size;
        for (const { fence } of model.tasks.values()) counts.taken += fence - 1;
      }),
      { numRuns: Number(process.env.RUNS ?? 30) },
    );
    console.log(counts);
  });
});
