/**
 * Takes up what an earlier process left: a task whose agent is known to have it is followed again; one of which that is
 * not known ends FAILED with the reason, because sending it again could do the work twice.
 */
import type { Logger } from "pino";
import { TaskState } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { foldTask, type TaskImage } from "../../domain/task-log.ts";
import type { SystemRepository } from "../../store/system-repository.ts";
import type { TaskKey } from "../../store/task-reads.ts";
import type { TaskStore } from "../../store/task-store.ts";
import type { AgentDirectory } from "../agent-directory.ts";
import type { Dispatcher } from "../dispatcher.ts";

const PAGE = 200;

export interface RecoveryDeps {
  system: SystemRepository;
  store: TaskStore;
  directory: AgentDirectory;
  dispatcher: Dispatcher;
  log: Logger;
}

export interface Recovered {
  resumed: number;
  failed: number;
  /** Tasks that could not be read. They stay as they are, and keep nobody else from starting. */
  broken: number;
}

/** Runs once, before the listeners open. */
export async function recoverTasks(deps: RecoveryDeps): Promise<Recovered> {
  const result: Recovered = { resumed: 0, failed: 0, broken: 0 };
  for (let after: TaskKey | undefined; ; ) {
    const page = await deps.system.unfinishedTasks(after, PAGE);
    for (const key of page) result[await recover(deps, key)]++;
    after = page.at(-1);
    if (page.length < PAGE) break;
  }
  if (result.resumed + result.failed + result.broken > 0) deps.log.info(result, "took up the tasks of an earlier run");
  return result;
}

async function recover({ store, directory, dispatcher, log }: RecoveryDeps, key: TaskKey): Promise<keyof Recovered> {
  const stored = await store.load(key.workspaceId, key.taskId);
  if (!stored) throw new Error(`task ${key.taskId} was listed and is not there`);
  let image: TaskImage;
  try {
    image = foldTask(stored.header, stored.updates);
  } catch (error) {
    log.error({ err: error, taskId: key.taskId }, "a task's log cannot be read");
    return "broken";
  }
  const agent = (await directory.agents(key.workspaceId)).byId.get(image.header.agentId);
  if (agent && image.header.upstreamTaskId !== undefined) {
    try {
      dispatcher.resume(image, agent);
      return "resumed";
    } catch (error) {
      log.warn({ err: error, taskId: key.taskId }, "a task's agent cannot be called any more");
    }
  }
  const text = agent
    ? "The router stopped before the agent confirmed the task. Whether the agent began it is not known; send it again if it may be repeated."
    : `Agent "${image.header.agentId}" left before it finished the task.`;
  await dispatcher.end(image, TaskState.FAILED, text, "router restarted");
  return "failed";
}
