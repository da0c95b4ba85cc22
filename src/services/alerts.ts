/**
 * What is measured beside the alert thresholds of rollouts, of each workspace and its capabilities. From the tasks that this
 * replica carried itself, in its memory alone.
 */
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Alert } from "../../gen/signalbox/v1/rollout_pb.ts";
import type { AlertThresholds } from "../domain/rollout.ts";
import type { TaskHeader } from "../domain/task-log.ts";
import { addTask, newTaskWindow, ratesOf, type TaskWindow } from "../domain/task-window.ts";
import type { Rollouts } from "./rollouts.ts";
import type { Runtime } from "./runtime.ts";

/** Workspaces and capabilities that are remembered at most, 10 KiB each. The one longest without a task is forgotten first. */
const MOST_WINDOWS = 1000;

/** How many agents of a workspace, or of a capability of it, have an open circuit, of how many. */
export type OpenCircuits = (workspaceId: string, capabilityId?: string) => Promise<{ open: number; agents: number }>;

export interface Alerts {
  /** A task ends, or comes to rest, here. */
  end(header: TaskHeader, state: TaskState): void;
  /** Of the workspace, then of each capability that had tasks in the last five minutes. */
  list(workspaceId: string): Promise<Alert[]>;
  /** Those that had tasks here. */
  workspaces(): string[];
}

export interface AlertsDeps {
  rollouts: Pick<Rollouts, "load" | "of">;
  openCircuits: OpenCircuits;
  runtime: Runtime;
}

interface Watched {
  readonly workspaceId: string;
  readonly capabilityId: string | undefined;
  readonly window: TaskWindow;
}

export function createAlerts({ rollouts, openCircuits, runtime }: AlertsDeps): Alerts {
  const watched = new Map<string, Watched>();

  function windowOf(workspaceId: string, capabilityId: string | undefined): TaskWindow {
    const key = `${workspaceId} ${capabilityId ?? ""}`;
    const known = watched.get(key) ?? { workspaceId, capabilityId, window: newTaskWindow() };
    // Moved to the end: the first is the one that was longest without a task.
    watched.delete(key);
    watched.set(key, known);
    if (watched.size > MOST_WINDOWS) watched.delete(watched.keys().next().value!);
    return known.window;
  }

  async function alertsOf(workspaceId: string, capabilityId: string | undefined): Promise<Alert[]> {
    const window = watched.get(`${workspaceId} ${capabilityId ?? ""}`)?.window ?? newTaskWindow();
    const { samples, errorRate, p95Ms, retryRate } = ratesOf(window, runtime.elapsedMs());
    if (samples === 0 && capabilityId !== undefined) return [];
    const { open, agents } = await openCircuits(workspaceId, capabilityId);
    const thresholds = rollouts.of(workspaceId, capabilityId).alertThresholds;
    const alert = (signal: string, value: number, of: keyof AlertThresholds, count = samples): Alert => ({
      $typeName: "signalbox.v1.Alert",
      capabilityId: capabilityId ?? "",
      signal,
      value,
      threshold: thresholds[of],
      crossed: value > thresholds[of],
      samples: BigInt(count),
    });
    return [
      alert("error_rate", errorRate, "errorRate"),
      alert("p95_ms", p95Ms, "p95Ms"),
      alert("retry_rate", retryRate, "retryRate"),
      alert("circuit_open_rate", agents === 0 ? 0 : open / agents, "circuitOpenRate", agents),
    ];
  }

  return {
    end({ workspaceId, capabilityId, createdAt, attempt }, state) {
      const failed = state === TaskState.FAILED || state === TaskState.REJECTED;
      if (!failed && state !== TaskState.COMPLETED) return;
      const latencyMs = runtime.now().getTime() - createdAt.getTime();
      const ended = { latencyMs, failed, retried: attempt > 1 };
      const nowMs = runtime.elapsedMs();
      addTask(windowOf(workspaceId, undefined), ended, nowMs);
      if (capabilityId !== undefined) addTask(windowOf(workspaceId, capabilityId), ended, nowMs);
    },

    async list(workspaceId) {
      await rollouts.load(workspaceId);
      const capabilities = [...watched.values()]
        .flatMap((one) => (one.workspaceId === workspaceId ? (one.capabilityId ?? []) : []))
        .sort();
      const found = await Promise.all([undefined, ...capabilities].map((id) => alertsOf(workspaceId, id)));
      return found.flat();
    },

    workspaces: () => [...new Set([...watched.values()].map(({ workspaceId }) => workspaceId))],
  };
}
