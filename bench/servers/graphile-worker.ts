/**
 * The peer graphile-worker with one no-op job. Argument: its database. Asked with InFlight, it adds jobs one by one, so
 * many at once, while they are worked, and answers with the jobs per second that were added, worked and deleted, which is
 * how it stores that they are done.
 *
 * It has its batching on: jobs fetched 500 at a time, completions written together.
 */
import { Logger, run as startWorker } from "graphile-worker";
import pg from "pg";
import { type InFlight, keepInFlight } from "../lab/keep-in-flight.ts";
import { announce } from "./announce.ts";

const TASK = "no-op";
const [url = ""] = process.argv.slice(2);

const pool = new pg.Pool({ connectionString: url, max: 10 });
const onError = (error: Error) => console.error(error);
pool.on("error", onError).on("connect", (client) => client.on("error", onError));
const worker = await startWorker({
  pgPool: pool,
  noHandleSignals: true,
  logger: new Logger(() => () => {}),
  taskList: { [TASK]: async () => {} },
  preset: { worker: { concurrentJobs: 10, localQueue: { size: 500 }, completeJobBatchDelay: 0 } },
});
const observer = new pg.Client(url);
await observer.connect();

async function run(load: InFlight): Promise<{ calls: number; perSecond: number }> {
  const started = performance.now();
  let added = 0;
  await keepInFlight(load, async () => {
    await worker.addJob(TASK, {});
    added += 1;
  });
  while ((await unfinished()) > 0);
  return { calls: added, perSecond: (added * 1000) / (performance.now() - started) };
}

async function unfinished(): Promise<number> {
  const { rows } = await observer.query<{ count: number }>("select count(*)::int as count from graphile_worker.jobs");
  return rows[0]!.count;
}

async function stop(): Promise<void> {
  await worker.stop();
  await Promise.all([pool.end(), observer.end()]);
}

announce({}, { answer: run, stop });
