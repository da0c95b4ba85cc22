/** The tasks that this replica carries at the moment, each with its runner. */
import type { Logger } from "pino";
import { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateBrought, stateOf, type TaskHeader, type TaskUpdate } from "../domain/task-log.ts";
import { TRANSITIONS } from "../domain/task-state.ts";
import type { AgentHome } from "../store/agent-repository.ts";
import type { TakenTask } from "../store/lease-repository.ts";
import type { TaskKey } from "../store/task-reads.ts";
import type { AgentPermits, Permit } from "./agent-permits.ts";
import type { AgentLoads } from "./routing/agent-load.ts";
import type { TaskRunner } from "./task-runner.ts";
import type { TaskWriter } from "./task-writer.ts";
import type { Commit, TaskListener, UpdateHub } from "./update-hub.ts";

export interface RunningTask {
  readonly runner: TaskRunner;
  /** Resolves when the runner rests. */
  readonly done: Promise<void>;
  /** It goes to its agent after all, though it was to be answered by another task's result: with this permit, or with what it needs. */
  admit(permit?: Permit): void;
}

export interface RunningTasks {
  /**
   * How many places are taken. Those that have ended, whose runner waits for the agent to name what it began, take half a
   * place at most.
   */
  readonly size: number;
  /** How many of each workspace run. */
  readonly byWorkspace: ReadonlyMap<string, number>;
  get(key: TaskKey): RunningTask | undefined;
  /** Lets a runner work. The task runs until the work settles; the runner is released then, and so is its permit. */
  start(runner: TaskRunner, work: (runner: TaskRunner) => Promise<void>, options?: StartOptions): void;
  /** Gives the tasks of a workspace the permits that they need since limits were set. */
  permitAll(workspaceId: string): void;
  /**
   * Forgets a task that is no longer this replica's, or no longer this writer's. Its runner may live on until its agent has
   * named what it began.
   */
  drop(key: TaskKey, writer?: TaskWriter): void;
  /** All of them, with the tokens under which they run. */
  list(): TakenTask[];
  /** The runners of all of them. */
  runners(): TaskRunner[];
  /** Resolves when none of those that run now runs any more. */
  settled(): Promise<void>;
}

export interface StartOptions {
  /** Its place at its agent. Without one, it is thought to be there already. */
  permit?: Permit | undefined;
  /** When its agent began, if that was before now. */
  since?: Date | undefined;
}

/** Who hears of the tasks that agents have. */
export interface TaskTimes extends Pick<AgentLoads, "begin"> {
  /** As of AgentLoads, of the agent that has the name `home` where it is registered. `isLast`: the task is with no other agent next. */
  end(header: TaskHeader, state: TaskState, isLast: boolean, home: AgentHome): void;
}

interface RunningDeps {
  hub: UpdateHub;
  log: Logger;
  /** Told which agents have how many tasks, and how they end. */
  loads: TaskTimes;
  permits: Pick<AgentPermits, "force">;
  onRest: () => void;
  now: () => Date;
}

export function createRunningTasks(deps: RunningDeps): RunningTasks {
  // The table that a map grew out of may hold what was in it until the next great collection: it must not hold much.
  const running = new Map<string, { entry: Entry | undefined }>();
  const places = new Places();
  const entries = () => [...running.values()].flatMap(({ entry }) => entry ?? []);

  function forget(key: string): void {
    const place = running.get(key);
    if (place) place.entry = undefined;
    running.delete(key);
  }

  return {
    byWorkspace: places.byWorkspace,
    get size() {
      return Math.max(places.taken, Math.ceil(running.size / 2));
    },
    get: (key) => running.get(keyOf(key))?.entry,
    start(runner, work, options) {
      const key = keyOf(runner.writer.image.header);
      const entry = new Entry(deps, places, runner, options);
      const place = { entry };
      running.set(key, place);
      entry.begin(work, () => {
        if (running.get(key) === place) forget(key);
      });
    },
    permitAll(workspaceId) {
      for (const entry of entries()) if (entry.workspaceId === workspaceId) entry.permit();
    },
    drop(key, writer) {
      const { runner } = running.get(keyOf(key))?.entry ?? {};
      if (!writer || runner?.writer === writer) forget(keyOf(key));
    },
    list: () =>
      entries().map(({ runner }) => {
        const { workspaceId, taskId, fence } = runner.writer.image.header;
        return { workspaceId, taskId, fence };
      }),
    runners: () => entries().map(({ runner }) => runner),
    settled: async () => void (await Promise.allSettled(entries().map(({ done }) => done))),
  };
}

const keyOf = ({ workspaceId, taskId }: TaskKey): string => `${workspaceId} ${taskId}`;

/** How many places are taken, and by which workspaces. */
class Places {
  taken = 0;
  readonly byWorkspace = new Map<string, number>();

  take(workspaceId: string): void {
    this.taken += 1;
    this.byWorkspace.set(workspaceId, (this.byWorkspace.get(workspaceId) ?? 0) + 1);
  }

  giveBack(workspaceId: string): void {
    this.taken -= 1;
    const left = (this.byWorkspace.get(workspaceId) ?? 0) - 1;
    if (left > 0) this.byWorkspace.set(workspaceId, left);
    else this.byWorkspace.delete(workspaceId);
  }
}

/** A task that runs. What has ended takes no place, though its runner may yet wait for its agent to name what it began. */
class Entry implements RunningTask, TaskListener {
  readonly runner: TaskRunner;
  done: Promise<void> = Promise.resolve();
  readonly #deps: RunningDeps;
  readonly #places: Places;
  readonly workspaceId: string;
  /** Whose work it is. Where its image comes to say another, this one has failed it, or was slow. */
  readonly #agentId: string;
  /** Since when, where that was not from the beginning. */
  readonly #since: Date | undefined;
  #permit: Permit | undefined;
  readonly #deaf: () => void;
  #hasPlace = true;

  constructor(deps: RunningDeps, places: Places, runner: TaskRunner, { permit, since }: StartOptions = {}) {
    const { workspaceId, taskId, agentId, origin } = runner.writer.image.header;
    this.#deps = deps;
    this.#agentId = agentId;
    // What passed with the agents before is not this one's.
    this.#since = since ?? (origin?.agentIds.length ? deps.now() : undefined);
    this.#places = places;
    this.workspaceId = workspaceId;
    this.runner = runner;
    // One that was taken before this replica had to join anew, or before limits were set, is not whole.
    this.#permit = permit;
    this.permit();
    places.take(workspaceId);
    deps.loads.begin(runner.home);
    this.#deaf = deps.hub.subscribe(workspaceId, taskId, this);
  }

  /** Sees to it that it has what it needs. Whoever is answered by another task's result is not at its agent. */
  permit(): void {
    if (!this.runner.isStoodIn) this.admit();
  }

  admit(permit = this.#permit): void {
    this.#permit = this.#deps.permits.force(this.runner.writer.image.header, permit);
  }

  begin(work: (runner: TaskRunner) => Promise<void>, forget: () => void): void {
    this.done = this.#run(work, forget);
  }

  onCommit({ updates }: Commit): void {
    if (!updates.some(endsTask)) return;
    this.#leavePlace();
    this.#deps.onRest();
  }

  onHint(seq: number): void {
    if (seq <= this.runner.writer.image.seq) return;
    this.runner.heed().catch((err: unknown) => {
      this.#deps.log.warn({ err, taskId: this.#taskId }, "a task could not be looked at again");
    });
  }

  async #run(work: (runner: TaskRunner) => Promise<void>, forget: () => void): Promise<void> {
    const { log, onRest } = this.#deps;
    try {
      await work(this.runner);
    } catch (err) {
      log.error({ err, taskId: this.#taskId }, "a runner broke");
    }
    this.#deaf();
    this.#leavePlace();
    forget();
    this.runner.release();
    // Not sooner: a task that was canceled, or was too late, may be at its agent until the agent has been told.
    this.#permit?.release();
    onRest();
  }

  get #taskId(): string {
    return this.runner.writer.image.header.taskId;
  }

  #leavePlace(): void {
    if (!this.#hasPlace) return;
    this.#hasPlace = false;
    this.#places.giveBack(this.workspaceId);
    const { image } = this.runner.writer;
    const { header } = image;
    const isStill = header.agentId === this.#agentId;
    const own =
      isStill && !this.#since
        ? header
        : { ...header, agentId: this.#agentId, createdAt: this.#since ?? header.createdAt };
    this.#deps.loads.end(own, this.#outcome(isStill), isStill && !this.runner.hasGivenWay, this.runner.home);
  }

  /** How the task ended as far as it tells of the agent that had it here. */
  #outcome(isStill: boolean): TaskState {
    // How long it took to give an earlier result again says nothing of the agent.
    if (this.runner.isStoodIn) return TaskState.UNSPECIFIED;
    // Who was too slow would have taken at least as long.
    if (this.runner.hasGivenWay) return TaskState.COMPLETED;
    return isStill ? stateOf(this.runner.writer.image) : TaskState.FAILED;
  }
}

const endsTask = (update: TaskUpdate): boolean => {
  const state = stateBrought(update);
  return state !== undefined && TRANSITIONS.get(state)?.length === 0;
};
