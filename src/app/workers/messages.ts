/** What the process of `signalbox serve` and its workers tell each other, over the channel that Node opens between them. */
import type { Config } from "../../config/settings.ts";
import type { MetricsSnapshot } from "../../transport/ops/metrics.ts";

/** Where a worker serves. */
export interface ServingAt {
  readonly httpUrl: string;
  readonly grpcAddress: string;
  /** The token of the first admin's key, where this worker's start made it. */
  readonly firstKey: string | undefined;
}

export type ToWorker =
  /** The answer to `ready`. */
  | { kind: "start"; config: Config }
  /** Let calls end, and end. */
  | { kind: "drain" }
  | { kind: "measure"; question: number }
  /** The page of all workers; an error's message where there is none. */
  | { kind: "page"; question: number; page?: string; error?: string };

export type FromWorker =
  /** It hears from now on what it is told. */
  | { kind: "ready" }
  | ({ kind: "serving" } & ServingAt)
  | { kind: "draining" }
  | { kind: "measured"; question: number; snapshot: MetricsSnapshot }
  | { kind: "ask-page"; question: number };
