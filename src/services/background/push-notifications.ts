/**
 * Posts updates to the webhooks of their tasks: in order per task, each with a bounded number of tries (A2A specification,
 * section 4.3.3). One reader of the log per task, with a cursor in memory: what was not posted when the process ends is
 * not posted later.
 */
import { toJson } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import { StreamResponseSchema, type TaskPushNotificationConfig } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { withMilliseconds } from "../../domain/json-times.ts";
import type { TaskUpdate } from "../../domain/task-log.ts";
import type { PushConfigRepository } from "../../store/push-config-repository.ts";
import type { TaskStore } from "../../store/task-store.ts";
import type { WebhookSender } from "../agent-port.ts";
import { MAX_CONFIGS } from "../push-configs.ts";
import { backoffMs, type Runtime } from "../runtime.ts";
import { whenDatabaseAnswers } from "../task-writer.ts";
import type { Commit, UpdateHub } from "../update-hub.ts";

/** Pause before the second try, and the longest pause, in milliseconds. */
const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 30_000;
const PAGE = 100;
/** Tasks that are posted for at once; further ones wait their turn. */
const MAX_ACTIVE = 64;

export interface PushDeps {
  store: TaskStore;
  configs: PushConfigRepository;
  hub: UpdateHub;
  webhooks: WebhookSender;
  runtime: Runtime;
  log: Logger;
  /** Tries of one update at one webhook. */
  attempts: number;
  timeoutMs: number;
  onDelivery: (outcome: "delivered" | "failed") => void;
}

export interface PushNotifications {
  /** Gives up what is under way and waits for it. */
  stop(): Promise<void>;
}

interface Duty {
  workspaceId: string;
  taskId: string;
  /** Number of the last update that was posted, or given up. */
  cursor: number;
  /** The last number that was heard of. */
  heard: number;
}

export function startPushNotifications(deps: PushDeps): PushNotifications {
  const { store, configs, webhooks, runtime, log } = deps;
  const stop = new AbortController();
  const duties = new Map<string, Duty>();
  const waiting: Duty[] = [];
  const active = new Set<Promise<void>>();

  const unsubscribe = deps.hub.onCommit(({ workspaceId, taskId, updates, hasPush }: Commit) => {
    const [first, last] = [updates[0], updates.at(-1)];
    if (!hasPush || !first || !last || stop.signal.aborted) return;
    const key = `${workspaceId} ${taskId}`;
    const duty = duties.get(key);
    if (duty) {
      duty.heard = Math.max(duty.heard, last.seq);
      return;
    }
    const added = { workspaceId, taskId, cursor: first.seq - 1, heard: last.seq };
    duties.set(key, added);
    waiting.push(added);
    begin();
  });

  function begin(): void {
    while (active.size < MAX_ACTIVE) {
      const duty = waiting.shift();
      if (!duty) return;
      const work = serve(duty).finally(() => {
        active.delete(work);
        begin();
      });
      active.add(work);
    }
  }

  const read = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, stop.signal, work);

  async function serve(duty: Duty): Promise<void> {
    const { workspaceId, taskId } = duty;
    try {
      while (duty.cursor < duty.heard) {
        stop.signal.throwIfAborted();
        const updates = await read(() => store.readUpdates(workspaceId, taskId, duty.cursor, PAGE));
        if (updates.length === 0) return;
        for (const update of updates) {
          if (update.kind === "status" || update.kind === "artifact") {
            // Asked for each time: a config that was deleted meanwhile gets no more.
            const webhooksOfTask = await read(() => configs.list(workspaceId, taskId, { limit: MAX_CONFIGS }));
            await Promise.all(webhooksOfTask.map((config) => deliver(duty, config, update)));
          }
          duty.cursor = update.seq;
        }
      }
    } catch (error) {
      if (!stop.signal.aborted) log.error({ err: error, taskId }, "push notifications of a task were given up");
    } finally {
      // In the same turn as the last look at `heard`: what is committed from now on begins a new duty.
      duties.delete(`${workspaceId} ${taskId}`);
    }
  }

  async function deliver(duty: Duty, config: TaskPushNotificationConfig, update: TaskUpdate): Promise<void> {
    const body = JSON.stringify(withMilliseconds(StreamResponseSchema, toJson(StreamResponseSchema, update.body)));
    for (let attempt = 0; ; ) {
      try {
        await webhooks.post(config.url, body, headersOf(config), { signal: stop.signal, timeoutMs: deps.timeoutMs });
        deps.onDelivery("delivered");
        return;
      } catch (error) {
        stop.signal.throwIfAborted();
        const facts = { err: error, taskId: duty.taskId, configId: config.id, seq: update.seq, attempt: attempt + 1 };
        if (++attempt >= deps.attempts) {
          deps.onDelivery("failed");
          log.warn(facts, "a push notification was given up");
          return;
        }
        log.info(facts, "a push notification failed; trying again");
        await runtime.wait(backoffMs(attempt - 1, RETRY_BASE_MS, RETRY_MAX_MS, runtime.random), stop.signal);
        if (!(await read(() => configs.get(duty.workspaceId, duty.taskId, config.id)))) return;
      }
    }
  }

  return {
    async stop() {
      unsubscribe();
      stop.abort();
      await Promise.allSettled(active);
    },
  };
}

function headersOf(config: TaskPushNotificationConfig): Record<string, string> {
  const { authentication, token } = config;
  return {
    ...(authentication && { authorization: `${authentication.scheme} ${authentication.credentials}`.trim() }),
    ...(token !== "" && { "x-a2a-notification-token": token }),
  };
}
