/**
 * Removes tasks that were kept long enough after their end, and empties artifacts of those whose artifacts were. One replica at a time
 * does, in small steps: after each it rests nine times as long as the step took, so that this is a tenth of what one connection to the
 * database can do, at most. Whatever fails is tried again at the next look; nothing else waits for any of this.
 */
import type { Logger } from "pino";
import { withoutContents } from "../../domain/artifact-retention.ts";
import { getOrMake } from "../../domain/get-or-make.ts";
import type { DueTask, EndPosition, TaskRetention as Retention } from "../../store/task-retention.ts";
import { isTransient } from "../database-away.ts";
import type { Runtime } from "../runtime.ts";
import { REMOVED, type UpdateHub } from "../update-hub.ts";

/** The mean pause between two looks, in milliseconds. Replicas do not keep step. */
const EVERY_MS = 30_000;
/** For so long beyond a rest a replica has the turn that it has taken, in milliseconds. */
const TURN_MS = 30_000;
/** How much longer than a step the rest after it is. */
const REST_RATIO = 9;
/** The shortest rest, in milliseconds. */
const REST_MIN_MS = 5;
/** Tasks that one look finds at most. */
const PAGE = 500;
/** Rows of logs that one step touches, unless one task has more. It grows while steps are shorter than half of STEP_MS, and shrinks when they are longer. */
const STEP_ROWS = { first: 500, least: 50, most: 5_000 };
const STEP_MS = 100;
/** Rows with artifacts that are read, and written, at once. */
const ARTIFACT_ROWS = 200;

/** What is removed: whole tasks, or the contents of artifacts. */
export type Retained = "task" | "artifact";

export interface TaskRetentionDeps {
  retention: Retention;
  hub: Pick<UpdateHub, "hint">;
  runtime: Runtime;
  log: Logger;
  /** Who removes. Asked each time: a replica that was declared dead goes on under another id. */
  replicaId: () => string;
  /** How long tasks, and the contents of artifacts, are kept after a task's end, in milliseconds. 0: for ever. */
  keep: { tasksMs: number; artifactsMs: number };
  /** Told how many tasks, and artifacts, were removed here. */
  onRemoved: (what: Retained, count: number) => void;
}

export interface TaskRetentionDuty {
  /** For how many seconds the oldest has been due, on whatever replica; 0: nothing is. Rejects when the database does not answer. */
  behind(): Promise<Record<Retained, number>>;
  /** Begins no more steps, and waits for the one that is under way. */
  stop(): Promise<void>;
}

/** Tasks of one workspace. */
interface Batch {
  workspaceId: string;
  taskIds: string[];
}

/** Another replica has the turn. */
class TurnLost extends Error {}

export function startTaskRetention(deps: TaskRetentionDeps): TaskRetentionDuty {
  const { retention, hub, runtime, log, replicaId, keep, onRemoved } = deps;
  const stop = new AbortController();
  const { signal } = stop;
  const removes = keep.tasksMs > 0;
  // What goes with its task anyway is not emptied before.
  const empties = keep.artifactsMs > 0 && !(removes && keep.tasksMs <= keep.artifactsMs);
  let stepRows = STEP_ROWS.first;

  /** Does one step, and rests. Throws TurnLost, and the reason of the signal, after it. */
  async function step<T>(work: () => Promise<T>): Promise<T> {
    const began = runtime.elapsedMs();
    const result = await work();
    const tookMs = runtime.elapsedMs() - began;
    if (tookMs > STEP_MS) stepRows = Math.max(STEP_ROWS.least, stepRows / 2);
    else if (tookMs < STEP_MS / 2) stepRows = Math.min(STEP_ROWS.most, stepRows * 2);
    const restMs = Math.max(REST_MIN_MS, tookMs * REST_RATIO);
    if (!(await retention.takeTurn(replicaId(), TURN_MS + restMs))) throw new TurnLost();
    await runtime.wait(restMs, signal);
    return result;
  }

  /** Does something with all tasks that ended by a moment. */
  async function eachDue(endedBy: Date, onlyFull: boolean, work: (batch: Batch) => Promise<void>): Promise<void> {
    for (let after: EndPosition | undefined; ; ) {
      const page = await step(() => retention.due({ endedBy, after, onlyFull, limit: PAGE }));
      const free = page.filter(({ isAwaited }) => !isAwaited);
      for (let rest = free; rest.length > 0; ) {
        const [batch, others] = nextBatch(rest, stepRows);
        rest = others;
        await singlyIfNeeded(batch, work);
      }
      if (page.length < PAGE) return;
      after = page.at(-1);
    }
  }

  /** What cannot be done to one task is done to its neighbours still. */
  async function singlyIfNeeded(batch: Batch, work: (batch: Batch) => Promise<void>): Promise<void> {
    try {
      await work(batch);
    } catch (err) {
      if (signal.aborted || err instanceof TurnLost || isTransient(err)) throw err;
      const { workspaceId, taskIds } = batch;
      if (taskIds.length > 1) {
        for (const taskId of taskIds) await singlyIfNeeded({ workspaceId, taskIds: [taskId] }, work);
        return;
      }
      log.error({ err, taskId: taskIds[0] }, "a task that was kept long enough could not be removed, or emptied");
    }
  }

  async function remove({ workspaceId, taskIds }: Batch): Promise<void> {
    await step(async () => {
      const removed = await retention.remove(workspaceId, taskIds);
      for (const taskId of removed) hub.hint(workspaceId, taskId, REMOVED);
      onRemoved("task", removed.length);
    });
  }

  async function empty({ workspaceId, taskIds }: Batch): Promise<void> {
    const sorted = taskIds.toSorted();
    const artifacts = new Map<string, Set<string>>();
    let more = true;
    for (let after: { taskId: string; seq: number } | undefined; more; ) {
      await step(async () => {
        const page = await retention.artifacts(workspaceId, sorted, after, ARTIFACT_ROWS);
        const removedAt = runtime.now();
        const changed = page.rows.flatMap(({ body, ...row }) => {
          const emptied = withoutContents(body, removedAt);
          return emptied ? [{ ...row, body: emptied }] : [];
        });
        for (const { taskId, body } of page.rows) getOrMake(artifacts, taskId, () => new Set()).add(artifactIdIn(body));
        if (changed.length > 0) await retention.rewrite(workspaceId, changed);
        after = page.rows.at(-1);
        more = page.more;
      });
    }
    await step(async () => {
      const marked = await retention.markEmptied(workspaceId, sorted, [...artifacts.keys()]);
      onRemoved(
        "artifact",
        marked.reduce((count, taskId) => count + (artifacts.get(taskId)?.size ?? 0), 0),
      );
    });
  }

  async function sweep(): Promise<void> {
    if (!(await retention.takeTurn(replicaId(), TURN_MS))) return;
    try {
      if (removes) await eachDue(ago(runtime, keep.tasksMs), false, remove);
      if (empties) await eachDue(ago(runtime, keep.artifactsMs), true, empty);
    } finally {
      await retention.giveTurn(replicaId()).catch(() => {});
    }
  }

  async function keepSweeping(): Promise<void> {
    // Soon after the start, when a setting may have changed; servers that start together do not look together.
    let pauseMs = EVERY_MS * 0.1;
    while (!signal.aborted) {
      await runtime.wait(pauseMs * (0.5 + runtime.random()), signal);
      pauseMs = EVERY_MS;
      try {
        await sweep();
      } catch (err) {
        if (signal.aborted || err instanceof TurnLost || isTransient(err)) continue;
        log.error({ err }, "what was kept long enough could not be looked for; trying again later");
      }
    }
  }

  const sweeping =
    removes || empties
      ? keepSweeping().catch((err: unknown) => {
          if (!signal.aborted) log.error({ err }, "tasks that have been kept long enough are not removed any more");
        })
      : Promise.resolve();
  return {
    async behind() {
      if (!removes && !empties) return { task: 0, artifact: 0 };
      const { ended, full } = await retention.oldest();
      const since = (at: Date | undefined, keptMs: number) =>
        at ? Math.max(0, runtime.now().getTime() - at.getTime() - keptMs) / 1000 : 0;
      return {
        task: removes ? since(ended, keep.tasksMs) : 0,
        artifact: empties ? since(full, keep.artifactsMs) : 0,
      };
    },
    async stop() {
      stop.abort();
      await sweeping;
    },
  };
}

const ago = (runtime: Runtime, ms: number) => new Date(Math.max(0, runtime.now().getTime() - ms));

/** The tasks of the first one's workspace, as many as have so many rows together, but one at least; and all others. */
function nextBatch(tasks: readonly DueTask[], mostRows: number): [Batch, DueTask[]] {
  const { workspaceId } = tasks[0]!;
  const taskIds: string[] = [];
  const others: DueTask[] = [];
  let rows = 0;
  for (const task of tasks) {
    const isTaken = task.workspaceId === workspaceId && (taskIds.length === 0 || rows + task.rows <= mostRows);
    if (!isTaken) others.push(task);
    else {
      taskIds.push(task.taskId);
      rows += task.rows;
    }
  }
  return [{ workspaceId, taskIds }, others];
}

function artifactIdIn({ payload }: Parameters<typeof withoutContents>[0]): string {
  return payload.case === "artifactUpdate" ? (payload.value.artifact?.artifactId ?? "") : "";
}
