/** One piece of work of an agent in this process, from a message to the end of its answer, and those who watch it. */
import type { StreamResponse, Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { applyArtifact, applyStatus } from "../domain/task-log.ts";
import type { Abortable } from "../services/abort-group.ts";
import { AgentCallError } from "../services/agent-port.ts";
import type { AgentCall } from "./agent-call.ts";

export class Run {
  readonly rpc: string;
  task: Task | undefined;
  ended = false;
  failure: unknown;
  readonly #watchers = new Set<RunWatcher>();
  #controller: AbortController | undefined;
  #aborted = false;

  constructor(rpc: string, task: Task | undefined) {
    this.rpc = rpc;
    this.task = task;
  }

  /** Ends the function's work. Most functions never ask for it. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#aborted) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  abort(): void {
    this.#aborted = true;
    this.#controller?.abort();
  }

  /** What is said from now on. Ends with the run, and with the call. */
  watch(call: AgentCall): RunWatcher {
    const watcher = new RunWatcher(this, call);
    if (this.ended) {
      watcher.close(this.failure);
      return watcher;
    }
    // Silence counts only while somebody listens.
    call.rest();
    this.#watchers.add(watcher);
    call.endsWithIt(watcher);
    return watcher;
  }

  leave(watcher: RunWatcher): void {
    this.#watchers.delete(watcher);
  }

  /** Keeps what the function says of its task, and tells those who watch. */
  publish(item: StreamResponse): void {
    const { payload } = item;
    if (payload.case === "task") {
      this.task = ownTask(payload.value);
    } else if (payload.case !== "message") {
      if (!this.task) {
        const what = `The agent's answer to ${this.rpc} begins with an update of no task.`;
        throw new AgentCallError("invalid", what);
      }
      if (payload.case === "statusUpdate") applyStatus(this.task, payload.value);
      else if (payload.case === "artifactUpdate") applyArtifact(this.task, payload.value);
    }
    for (const watcher of this.#watchers) watcher.push(item);
  }

  end(): void {
    this.ended = true;
    for (const watcher of this.#watchers) watcher.close(this.failure);
    this.#watchers.clear();
  }
}

/** What of a task is changed in place is copied: the function, and whoever hears it, have the task that it showed. */
function ownTask(task: Task): Task {
  return {
    ...task,
    status: task.status && { ...task.status },
    history: [...task.history],
    artifacts: task.artifacts.map((artifact) => ({ ...artifact, parts: [...artifact.parts] })),
  };
}

/** The items of a run on their way to one reader, which asks for the next one when it has the last. */
export class RunWatcher implements AsyncIterableIterator<StreamResponse>, Abortable {
  readonly #run: Run;
  readonly #call: AgentCall;
  readonly #items: StreamResponse[] = [];
  /** No item follows those that wait, but perhaps an error. */
  #closed: { error: unknown } | undefined;
  #waiting: PromiseWithResolvers<IteratorResult<StreamResponse, undefined>> | undefined;

  constructor(run: Run, call: AgentCall) {
    this.#run = run;
    this.#call = call;
  }

  push(item: StreamResponse): void {
    if (this.#closed) return;
    const reader = this.#given();
    if (reader) reader.resolve({ done: false, value: item });
    else this.#items.push(item);
  }

  /** Ends the items after those that wait, with an error if one is given. */
  close(error?: unknown): void {
    if (this.#closed) return;
    this.#closed = { error };
    const reader = this.#given();
    if (!reader) return;
    if (error === undefined) reader.resolve({ done: true, value: undefined });
    else reader.reject(error);
  }

  /** Ends the items with an error, at once. */
  abort(reason: unknown): void {
    this.#run.leave(this);
    this.#items.length = 0;
    this.#closed = undefined;
    this.close(reason);
  }

  next(): Promise<IteratorResult<StreamResponse, undefined>> {
    const value = this.#items.shift();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.#closed) {
      if (this.#closed.error !== undefined) return Promise.reject(this.#closed.error);
      return Promise.resolve({ done: true, value: undefined });
    }
    this.#waiting = Promise.withResolvers();
    this.#call.expect();
    return this.#waiting.promise;
  }

  return(): Promise<IteratorResult<StreamResponse, undefined>> {
    this.#items.length = 0;
    this.#closed = { error: undefined };
    this.#run.leave(this);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The reader that waits, which waits no more. */
  #given() {
    const reader = this.#waiting;
    if (!reader) return undefined;
    this.#waiting = undefined;
    this.#call.rest();
    return reader;
  }
}
