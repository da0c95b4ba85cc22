/** The page of all workers: sums that never fall, and who is silent. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { expect, test } from "vitest";
import { createMetricsRounds } from "../../src/app/workers/metrics-round.ts";
import { sampleOf, samplesByWorker } from "../fault/worker-fleet.ts";

/** A worker's registry, with one metric of each kind. */
function worker() {
  const registry = new Registry();
  const registers = [registry];
  const tasks = new Counter({ name: "tasks_total", help: "Tasks.", labelNames: ["kind"], registers });
  const running = new Gauge({ name: "running", help: "Running tasks.", registers });
  const lag = new Gauge({ name: "lag", help: "Lag of what all share.", registers, aggregator: "max" });
  const took = new Histogram({ name: "took_seconds", help: "Duration.", buckets: [1, 2], registers });
  return { registry, tasks, running, lag, took };
}

const lab = (answerMs?: number) => {
  const workers = new Map<number, { ask(question: number): void }>();
  const counts = () => ({ wanted: 2, starting: 0, serving: workers.size, draining: 0, restarts: 0 });
  const rounds = createMetricsRounds({ workers: () => workers, counts, ...(answerMs !== undefined && { answerMs }) });
  const join = (id: number, { registry }: { registry: Registry }) =>
    workers.set(id, {
      ask: async (question) => rounds.answered(id, question, await registry.getMetricsAsJSON()),
    });
  return { workers, rounds, join };
};

test("counters and histograms are sums, gauges what they mean", async () => {
  const { rounds, join } = lab();
  const [one, two] = [worker(), worker()];
  join(1, one);
  join(2, two);
  one.tasks.inc({ kind: "a" }, 3);
  two.tasks.inc({ kind: "a" }, 4);
  two.tasks.inc({ kind: "b" });
  for (const [each, value] of [
    [one, 2],
    [two, 5],
  ] as const) {
    each.running.set(value);
    each.lag.set(value);
    each.took.observe(1.5);
  }
  const page = await rounds.page();
  expect(sampleOf(page, 'tasks_total{kind="a"}')).toBe(7);
  expect(sampleOf(page, 'tasks_total{kind="b"}')).toBe(1);
  expect(sampleOf(page, "running")).toBe(7);
  expect(sampleOf(page, "lag")).toBe(5);
  expect(sampleOf(page, 'took_seconds_bucket{le="2"}')).toBe(2);
  expect(sampleOf(page, "took_seconds_sum")).toBe(3);
  expect(sampleOf(page, 'signalbox_workers{state="serving"}')).toBe(2);
  expect([...samplesByWorker(page, "signalbox_worker_calls_total").keys()]).toEqual([1, 2]);
});

test("what a dead worker has counted stays, also beside its successor, and what it carried goes", async () => {
  const { workers, rounds, join } = lab();
  for (let id = 1; id <= 4; id++) {
    const each = worker();
    join(id, each);
    each.tasks.inc({ kind: "a" }, 10);
    each.running.set(1);
    const page = await rounds.page();
    expect(sampleOf(page, 'tasks_total{kind="a"}')).toBe(10 * id);
    expect(sampleOf(page, "running")).toBe(1);
    workers.delete(id);
    rounds.left(id);
  }
  expect(sampleOf(await rounds.page(), 'tasks_total{kind="a"}')).toBe(40);
});

test("one that does not answer is silent: its counters stand where they stood, its gauges are left out", async () => {
  const { workers, rounds, join } = lab(20);
  const [one, two] = [worker(), worker()];
  join(1, one);
  join(2, two);
  for (const each of [one, two]) {
    each.tasks.inc({ kind: "a" }, 10);
    each.running.set(1);
  }
  await rounds.page();
  workers.set(2, { ask: () => {} });
  one.tasks.inc({ kind: "a" });
  const page = await rounds.page();
  expect(sampleOf(page, 'tasks_total{kind="a"}')).toBe(21);
  expect(sampleOf(page, "running")).toBe(1);
  expect(sampleOf(page, 'signalbox_workers{state="silent"}')).toBe(1);
});

test("one that dies while it is asked holds no page up, and askers share a page", async () => {
  const { workers, rounds, join } = lab();
  join(1, worker());
  let asked = 0;
  workers.set(2, {
    ask() {
      asked += 1;
      workers.delete(2);
      rounds.left(2);
    },
  });
  const pages = await Promise.all([rounds.page(), rounds.page()]);
  expect(pages[0]).toBe(pages[1]);
  expect(asked).toBe(1);
});
