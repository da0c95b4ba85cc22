/**
 * What replicas tell each other in a notification: JSON, because ids may hold any character. PostgreSQL takes less than
 * 8,000 bytes, and keeps what waits to be told in memory no longer than it must: so there is a bound on both.
 */
import type { TaskNumber } from "../../store/task-reads.ts";

/** Longest payload in bytes. */
export const MAX_PAYLOAD_BYTES = 7_900;
/** Tasks of which news may wait; where there would be more, the news is that everything may have changed. */
export const MAX_WAITING = 1_000;

/** What one notification says. */
export interface HintMessage {
  /** The instance that speaks. */
  from: string;
  /** It has just begun to listen, and asks who else is there. */
  hello?: true;
  /** Tasks may wait in the queue. */
  work?: true;
  /** Any log may have grown. */
  all?: true;
  /** Logs that have grown: workspace, task, number of the last row. */
  tasks: readonly (readonly [workspaceId: string, taskId: string, seq: number])[];
}

/** What waits to be told, put together as shortly as can be. */
export interface WaitingHints {
  /** A log has grown; of several numbers of one task the greatest counts. */
  grown(task: TaskNumber): void;
  hello(): void;
  work(): void;
  all(): void;
  /** Takes out what fits into one payload, oldest first; undefined when nothing waits. */
  take(): string | undefined;
}

export function createWaitingHints(from: string): WaitingHints {
  const tasks = new Map<string, TaskNumber>();
  let flags: Pick<HintMessage, "hello" | "work" | "all"> = {};
  const isEmpty = () => tasks.size === 0 && Object.keys(flags).length === 0;

  function all(): void {
    flags.all = true;
    tasks.clear();
  }

  return {
    grown({ workspaceId, taskId, seq }) {
      if (flags.all) return;
      const name = `${workspaceId} ${taskId}`;
      const waiting = tasks.get(name);
      if (waiting) waiting.seq = Math.max(waiting.seq, seq);
      else if (tasks.size < MAX_WAITING) tasks.set(name, { workspaceId, taskId, seq });
      else all();
    },
    hello() {
      flags.hello = true;
    },
    work() {
      flags.work = true;
    },
    all,
    take() {
      if (isEmpty()) return undefined;
      const taken: HintMessage["tasks"][number][] = [];
      let room = MAX_PAYLOAD_BYTES - bytesOf({ from, hello: true, work: true, all: true, tasks: [] });
      for (const [name, { workspaceId, taskId, seq }] of tasks) {
        const task = [workspaceId, taskId, seq] as const;
        room -= bytesOf(task) + 1;
        if (room < 0) break;
        taken.push(task);
        tasks.delete(name);
      }
      // A name that fits into no payload.
      if (taken.length === 0 && tasks.size > 0) all();
      const message: HintMessage = { from, ...flags, tasks: taken };
      flags = {};
      return JSON.stringify(message);
    },
  };
}

const bytesOf = (part: unknown): number => Buffer.byteLength(JSON.stringify(part));

/** Reads a payload; undefined when it is none of ours, or of a version that says what we do not know. */
export function readHints(payload: string): HintMessage | undefined {
  let said: unknown;
  try {
    said = JSON.parse(payload);
  } catch {
    return undefined;
  }
  if (typeof said !== "object" || said === null) return undefined;
  const { from, tasks } = said as Record<string, unknown>;
  if (typeof from !== "string" || !Array.isArray(tasks) || !tasks.every(isTask)) return undefined;
  return said as HintMessage;
}

const isTask = (task: unknown): boolean =>
  Array.isArray(task) &&
  task.length === 3 &&
  typeof task[0] === "string" &&
  typeof task[1] === "string" &&
  Number.isSafeInteger(task[2]);
