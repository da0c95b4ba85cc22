/** The tasks of an agent in a file, so that it knows them again after it was killed. */
import { existsSync, openSync, readFileSync, writeSync } from "node:fs";
import { Task, TaskState } from "@a2a-js/sdk";
import { InMemoryTaskStore, type ServerCallContext } from "@a2a-js/sdk/server";

const UNFINISHED: readonly TaskState[] = [
  TaskState.TASK_STATE_SUBMITTED,
  TaskState.TASK_STATE_WORKING,
  TaskState.TASK_STATE_AUTH_REQUIRED,
];

/** A store of the SDK that is read from a file at its start. What it had in hand is then done: nobody else would end it. */
export class RememberedTasks extends InMemoryTaskStore {
  readonly #tasks = new Map<string, Task>();
  readonly #fd: number;

  constructor(file: string) {
    super();
    if (existsSync(file)) {
      for (const line of readFileSync(file, "utf8").split("\n")) {
        if (line === "") continue;
        const task = Task.fromJSON(JSON.parse(line));
        this.#tasks.set(task.id, task);
      }
    }
    this.#fd = openSync(file, "a");
    for (const task of this.#tasks.values()) {
      if (!task.status || !UNFINISHED.includes(task.status.state)) continue;
      task.status.state = TaskState.TASK_STATE_COMPLETED;
      this.#write(task);
    }
  }

  override async save(task: Task): Promise<void> {
    this.#tasks.set(task.id, structuredClone(task));
    this.#write(task);
  }

  override async load(taskId: string, _context: ServerCallContext): Promise<Task | undefined> {
    const task = this.#tasks.get(taskId);
    return task && structuredClone(task);
  }

  #write(task: Task): void {
    writeSync(this.#fd, `${JSON.stringify(Task.toJSON(task))}\n`);
  }
}
