/**
 * A process with one duty of the outbox that writes down what it gets, one line of JSON a batch, and that is killed right
 * after its work on a batch, before the cursor can be moved.
 */
import { writeSync } from "node:fs";
import { pino } from "pino";
import { startOutbox } from "../../src/services/background/outbox.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createUpdateHub } from "../../src/services/update-hub.ts";
import { createOutboxRepository } from "../../src/store/outbox-repository.ts";
import { openPostgres } from "../../src/store/postgres.ts";

const [url, replicaId, duty, batches, rows] = process.argv.slice(2) as [string, string, string, string, string];
let left = Number(batches);
const log = pino({ level: "silent" });
await startOutbox({
  duties: [
    {
      name: duty,
      topic: "all",
      async handle(batch) {
        writeSync(1, `${JSON.stringify(batch.map(({ taskId, seq }) => `${taskId} ${seq}`))}\n`);
        if (--left === 0) process.kill(process.pid, "SIGKILL");
      },
    },
  ],
  repository: createOutboxRepository(openPostgres({ url, poolSize: 2, log })),
  hub: createUpdateHub(),
  runtime: systemRuntime(),
  log,
  replicaId: () => replicaId,
  batch: { rows: Number(rows), bytes: 1_000_000 },
});
