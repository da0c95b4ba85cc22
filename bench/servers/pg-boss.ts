/**
 * The peer pg-boss with one no-op job. Argument: its database. Asked with InFlight, it sends jobs one by one, so many at
 * once, while a worker works them, and answers with the jobs per second that were sent, worked and stored as completed.
 *
 * It has its batching on (fetches of up to 500 jobs that follow each other while they come back full) and 40 connections,
 * which was faster here than 10 or 20. Senders do not wait for their jobs to be worked, as those of Signalbox do for their
 * tasks: that would make its batches small.
 */
import pg from "pg";
import { PgBoss } from "pg-boss";
import { type InFlight, keepInFlight } from "../lab/keep-in-flight.ts";
import { announce } from "./announce.ts";

const QUEUE = "no-op";
const [url = ""] = process.argv.slice(2);

const boss = new PgBoss({ connectionString: url, max: 40, schedule: false });
boss.on("error", (error) => console.error(error));
await boss.start();
await boss.createQueue(QUEUE);
const options = { batchSize: 500, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };
const worker = await boss.work(QUEUE, options, async () => {});
const observer = new pg.Client(url);
await observer.connect();

async function run(load: InFlight): Promise<{ calls: number; perSecond: number }> {
  const started = performance.now();
  let sent = 0;
  await keepInFlight(load, async () => {
    await boss.send(QUEUE, {});
    sent += 1;
  });
  // The last jobs do not fill a batch, so its worker would wait for the next poll.
  while ((await unfinished()) > 0) boss.notifyWorker(worker);
  return { calls: sent, perSecond: (sent * 1000) / (performance.now() - started) };
}

async function unfinished(): Promise<number> {
  const { rows } = await observer.query<{ count: number }>(
    "select count(*)::int as count from pgboss.job where name = $1 and state < 'completed'",
    [QUEUE],
  );
  return rows[0]!.count;
}

announce({}, { answer: run, stop: () => Promise.all([boss.stop({ graceful: false }), observer.end()]).then(() => {}) });
