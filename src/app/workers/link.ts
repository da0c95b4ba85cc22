/** A worker's side of the channel to the process that started it. */
import cluster, { type Worker } from "node:cluster";
import type { Config } from "../../config/settings.ts";
import { SignalboxError } from "../../domain/errors.ts";
import type { MetricsSnapshot } from "../../transport/ops/metrics.ts";
import type { FromWorker, ServingAt, ToWorker } from "./messages.ts";

/** How long the page of all workers may take, in milliseconds: longer than the round that makes it. */
const PAGE_MS = 5_000;

/** What makes a server one of several on its machine. */
export interface WorkerSeat {
  /** Rises with each worker that is started, from 1. */
  readonly id: number;
  /** What all workers measure, as one page. Throws METRICS_UNAVAILABLE. */
  metricsPage(): Promise<string>;
  /** Says how this one is measured. Until then it does not answer. */
  measuredBy(measure: () => Promise<MetricsSnapshot>): void;
}

export interface WorkerLink extends WorkerSeat {
  /** That of all workers, as the first process has read it. */
  readonly config: Config;
  /** Aborts when this worker is to drain: it was told to, or whoever started it is gone. */
  readonly drain: AbortSignal;
  serving(at: ServingAt): void;
  /** Lets this process end. */
  close(): void;
}

/** Call it once, in a process that a supervisor has started. `stop` says that this process was asked to stop by somebody else. */
export async function openWorkerLink(stop: AbortSignal): Promise<WorkerLink> {
  const { worker } = cluster;
  if (!worker) throw new Error("this process is no worker");
  const told = new AbortController();
  const drain = AbortSignal.any([stop, told.signal]);
  const started = Promise.withResolvers<Config>();
  const pages = new Map<number, PromiseWithResolvers<string>>();
  let measure: (() => Promise<MetricsSnapshot>) | undefined;
  let asked = 0;

  // Whoever is gone needs no answer.
  const tell = (message: FromWorker) => void (worker.isConnected() && worker.send(message, () => {}));

  async function answer(question: number): Promise<void> {
    // One that fails is found to be silent.
    const snapshot = await measure?.().catch(() => undefined);
    if (snapshot) tell({ kind: "measured", question, snapshot });
  }
  worker.on("message", (message: ToWorker) => {
    if (message.kind === "start") started.resolve(message.config);
    else if (message.kind === "drain") told.abort();
    else if (message.kind === "measure") void answer(message.question);
    else settlePage(pages, message);
  });
  endsInOrder(worker, () => {
    started.reject(new Error("whoever started this worker has gone"));
    for (const page of pages.values()) page.reject(unavailable("it has gone"));
    told.abort();
  });
  tell({ kind: "ready" });
  const config = await started.promise;
  drain.addEventListener("abort", () => tell({ kind: "draining" }));

  return {
    id: worker.id,
    config,
    drain,
    metricsPage: () => askPage(pages, ++asked, tell),
    measuredBy: (how) => {
      measure = how;
    },
    serving: ({ httpUrl, grpcAddress, firstKey }) => tell({ kind: "serving", httpUrl, grpcAddress, firstKey }),
    close: () => {
      if (worker.isConnected()) process.disconnect();
    },
  };
}

/** Without this, node:cluster ends a worker on the spot when the process that started it is gone. */
function endsInOrder(worker: Worker, onLeft: () => void): void {
  worker.on("disconnect", () => {
    worker.exitedAfterDisconnect = true;
    onLeft();
  });
}

async function askPage(
  pages: Map<number, PromiseWithResolvers<string>>,
  question: number,
  tell: (message: FromWorker) => void,
): Promise<string> {
  const page = Promise.withResolvers<string>();
  const timer = setTimeout(() => page.reject(unavailable(`it did not answer within ${PAGE_MS} ms`)), PAGE_MS);
  pages.set(question, page);
  tell({ kind: "ask-page", question });
  try {
    return await page.promise;
  } finally {
    clearTimeout(timer);
    pages.delete(question);
  }
}

function settlePage(
  pages: ReadonlyMap<number, PromiseWithResolvers<string>>,
  { question, page, error }: Extract<ToWorker, { kind: "page" }>,
): void {
  if (page === undefined) pages.get(question)?.reject(unavailable(error ?? "it has none"));
  else pages.get(question)?.resolve(page);
}

const unavailable = (why: string): SignalboxError =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "METRICS_UNAVAILABLE",
    message: `The process that puts the metrics of all workers together has no page: ${why}. Ask again.`,
  });
