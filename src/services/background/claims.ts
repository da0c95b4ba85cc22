/**
 * Takes tasks that nobody has: those of dead replicas, and those that wait and are due. Looks whenever there is reason to,
 * and now and then without one: a hint may be lost.
 */
import type { Logger } from "pino";
import type { LeaseRepository, TakenTask } from "../../store/lease-repository.ts";
import type { AgentQueue, PermittedTask } from "../agent-queue.ts";
import { isTransient } from "../database-away.ts";
import type { Dispatcher } from "../dispatcher.ts";
import type { Runtime } from "../runtime.ts";

/** Tasks that are taken at once at most. */
const BATCH = 100;
/** How often it looks without a reason, and compares what it carries with what the database says, in milliseconds. */
const POLL_MS = 1_000;
const SWEEP_MS = 15_000;

export interface ClaimsDeps {
  leases: LeaseRepository;
  dispatcher: Dispatcher;
  agentQueue: Pick<AgentQueue, "take" | "sort">;
  replicaId: () => string;
  runtime: Runtime;
  log: Logger;
  /** Tasks that run here at once at most. */
  maxRunning: number;
  /** Tasks that may wait for a replica. */
  maxQueued: number;
  /** Told of tasks that were taken. What is its own and was left lying is not among them. */
  onTaken: (how: "claimed" | "rescued", tasks: number) => void;
}

export interface Claims {
  /** There may be something to take now, or in some milliseconds. */
  look(inMs?: number): void;
  /** There may be room at agents for which tasks wait. */
  lookAtAgents(): void;
  /** Takes what can be taken until nothing is left, or there is no more room. */
  takeAll(): Promise<void>;
  /** Whether tasks wait for room, as far as this replica knows: what is new must wait behind them. */
  busy(): boolean;
  /** Whether as many tasks wait as may. */
  full(): Promise<boolean>;
  start(): void;
  stop(): Promise<void>;
}

type Adoptable = Pick<PermittedTask, "permit"> & { task: TakenTask };

export function createClaims(deps: ClaimsDeps): Claims {
  const { leases, dispatcher, replicaId, runtime, log } = deps;
  const stop = new AbortController();
  const timers = new Set<NodeJS.Timeout>();
  let wake: () => void = () => {};
  let wanted = false;
  /** Whether no more is to be looked at than what waits at agents. */
  let onlyAgents = false;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let backlog = false;
  let lastServed = "";
  /** How many tasks wait, as they were counted last; what this replica adds meanwhile is counted here. */
  let counted = { at: Number.NEGATIVE_INFINITY, waiting: Promise.resolve(0), added: 0 };
  /** What the last comparison found amiss. A task that is just beginning or ending may look so once. */
  let suspects = new Set<string>();

  const keyOf = ({ workspaceId, taskId, fence }: TakenTask) => `${workspaceId} ${taskId} ${fence}`;

  function look(inMs = 0): void {
    if (inMs > 0) {
      const timer = setTimeout(() => {
        timers.delete(timer);
        look();
      }, inMs);
      timers.add(timer.unref());
      return;
    }
    wanted = true;
    onlyAgents = false;
    wake();
  }

  function lookAtAgents(): void {
    if (!wanted) onlyAgents = true;
    wanted = true;
    wake();
  }

  async function adopt(tasks: readonly Adoptable[], how: "claimed" | "rescued"): Promise<void> {
    await Promise.all(
      tasks.map(({ task, permit }) =>
        dispatcher.adopt(task, how, permit).catch((err: unknown) => {
          if (!stop.signal.aborted)
            log.error({ err, taskId: task.taskId }, "a task that was taken cannot be carried on");
        }),
      ),
    );
  }

  const room = () => Math.min(BATCH, deps.maxRunning - dispatcher.running);

  /** Takes one batch of what waits at agents. */
  async function takeOfAgents(): Promise<void> {
    if (room() <= 0) return;
    const { taken, more } = await deps.agentQueue.take(room(), stop.signal);
    deps.onTaken("claimed", taken.length);
    await adopt(taken, "claimed");
    if (more) lookAtAgents();
  }

  /** Takes one batch of each kind. True when there may be more, and room for it. */
  async function takeSome(): Promise<boolean> {
    if (room() <= 0) return false;
    const rescueLimit = room();
    const rescued = await leases.rescue(replicaId(), rescueLimit);
    if (rescued.length > 0) log.info({ tasks: rescued.length }, "took over tasks of replicas that are gone");
    deps.onTaken("rescued", rescued.length);
    await adopt(await deps.agentQueue.sort(rescued, "rescued", stop.signal), "rescued");
    // Before what waits for any replica: their agents' places are idle.
    await takeOfAgents();
    const claimLimit = room();
    if (claimLimit <= 0) return false;
    const fairness = { running: dispatcher.runningByWorkspace, last: lastServed };
    const claimed = await leases.claim(replicaId(), claimLimit, fairness);
    lastServed = claimed.at(-1)?.workspaceId ?? lastServed;
    backlog = claimed.length > 0;
    deps.onTaken("claimed", claimed.length);
    await adopt(await deps.agentQueue.sort(claimed, "claimed", stop.signal), "claimed");
    return rescued.length === rescueLimit || backlog;
  }

  async function takeAll(): Promise<void> {
    lookedAt = runtime.elapsedMs();
    while (!stop.signal.aborted && (await takeSome()));
  }

  /** Compares what this replica carries with what the database says is its own. */
  async function sweep(): Promise<void> {
    const byDatabase = await leases.held(replicaId());
    const byUs = dispatcher.held();
    const [theirs, ours] = [new Set(byDatabase.map(keyOf)), new Set(byUs.map(keyOf))];
    const strays = byDatabase.filter((task) => !ours.has(keyOf(task)));
    const lost = byUs.filter((task) => !theirs.has(keyOf(task)));
    const before = suspects;
    suspects = new Set([...strays, ...lost].map(keyOf));
    const again = (task: TakenTask) => before.has(keyOf(task));
    for (const task of strays.filter(again)) log.warn({ taskId: task.taskId }, "a task was left lying; taking it up");
    const left = strays.filter(again).map((task) => ({ task, permit: undefined }));
    await adopt(left, "rescued");
    for (const task of lost.filter(again)) await dispatcher.heed(task);
  }

  async function run(): Promise<void> {
    let swept = runtime.elapsedMs();
    while (!stop.signal.aborted) {
      const isShort = onlyAgents && runtime.elapsedMs() - lookedAt < POLL_MS;
      wanted = onlyAgents = false;
      try {
        if (isShort) await takeOfAgents();
        else await takeAll();
        if (runtime.elapsedMs() - swept >= SWEEP_MS) {
          swept = runtime.elapsedMs();
          await sweep();
        }
      } catch (error) {
        if (stop.signal.aborted) return;
        log.warn(
          { err: error },
          isTransient(error) ? "waiting tasks cannot be read for now" : "no task could be taken",
        );
      }
      if (!wanted) await pause();
    }
  }

  function pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => wake(), POLL_MS);
      wake = () => {
        clearTimeout(timer);
        wake = () => {};
        resolve();
      };
      if (stop.signal.aborted) wake();
    });
  }

  let ran: Promise<void> = Promise.resolve();
  return {
    look,
    lookAtAgents,
    takeAll,
    busy: () => backlog,
    async full() {
      const at = runtime.elapsedMs();
      if (at - counted.at > POLL_MS) {
        counted = { at, waiting: leases.waiting(deps.maxQueued), added: 0 };
        // A count that fails is made again by whoever asks next.
        counted.waiting.catch(() => {
          counted.at = Number.NEGATIVE_INFINITY;
        });
      }
      const count = counted;
      if ((await count.waiting) + count.added >= deps.maxQueued) return true;
      count.added += 1;
      backlog = true;
      return false;
    },
    start() {
      ran = run();
    },
    async stop() {
      stop.abort();
      wake();
      for (const timer of timers) clearTimeout(timer);
      await ran;
    },
  };
}
