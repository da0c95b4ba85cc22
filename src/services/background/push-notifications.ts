/**
 * Posts updates to the webhooks of their tasks (A2A specification, section 4.3.3). Each config of a task has a reader of
 * the log of its own, so updates come in order and a webhook that is down delays no other. An update has a bounded number
 * of tries; when they are used up, the config is given up for its task, so that a dead webhook costs no more than that.
 * Cursors live in memory: what was not posted when the process ends is not posted later.
 */
import { createHash } from "node:crypto";
import { toBinary, toJson } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import {
  StreamResponseSchema,
  type TaskPushNotificationConfig,
  TaskPushNotificationConfigSchema,
} from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { withMilliseconds } from "../../domain/json-times.ts";
import type { PushConfigRepository } from "../../store/push-config-repository.ts";
import type { TaskStore } from "../../store/task-store.ts";
import type { WebhookSender } from "../agent-port.ts";
import { MAX_CONFIGS } from "../push-configs.ts";
import { backoffMs, type Runtime } from "../runtime.ts";
import { whenDatabaseAnswers } from "../task-writer.ts";
import type { Commit, UpdateHub } from "../update-hub.ts";
import { createPlaces } from "./places.ts";

/** Pause before the second try, and the longest pause, in milliseconds. */
const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 30_000;
/** Posts under way at once. */
const MAX_POSTS = 64;
/** Tasks whose configs are looked up at once. */
const MAX_LOOKUPS = 8;
/** Readers with something to post, and configs that are remembered as given up. */
const MAX_READERS = 10_000;

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
  /** `failed`: a config was given up for its task, or its updates were dropped because too many others wait. */
  onDelivery: (outcome: "delivered" | "failed") => void;
  /** Readers with something to post; 10,000 unless told. What needs one more is dropped. */
  maxReaders?: number;
}

export interface PushNotifications {
  /** Gives up what is under way and waits for it. */
  stop(): Promise<void>;
}

/** Updates of a task that its configs have yet to be told of: those after `after`, up to `until`. */
interface News {
  workspaceId: string;
  taskId: string;
  after: number;
  until: number;
}

/** What one config has yet to get. `after` is the number of the last update that was posted. */
interface Reader extends News {
  configId: string;
}

/** A post that did not succeed. */
interface Failure {
  config: TaskPushNotificationConfig;
  seq: number;
  error: unknown;
}

export function startPushNotifications(deps: PushDeps): PushNotifications {
  const { store, configs, webhooks, runtime, log, maxReaders = MAX_READERS } = deps;
  const stop = new AbortController();
  const newsByTask = new Map<string, News>();
  const readers = new Map<string, Reader>();
  /** Configs that have used up their tries, oldest first. */
  const givenUp = new Set<string>();
  const active = new Set<Promise<void>>();
  const inPost = createPlaces(MAX_POSTS);
  const inLookup = createPlaces(MAX_LOOKUPS);

  const read = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, stop.signal, work);

  const unsubscribe = deps.hub.onCommit(({ workspaceId, taskId, updates, hasPush }: Commit) => {
    const [first, last] = [updates[0], updates.at(-1)];
    if (!hasPush || !first || !last) return;
    const key = `${workspaceId} ${taskId}`;
    const known = newsByTask.get(key);
    if (known) {
      known.until = Math.max(known.until, last.seq);
      return;
    }
    const news = { workspaceId, taskId, after: first.seq - 1, until: last.seq };
    newsByTask.set(key, news);
    start(taskId, handOut(news, key));
  });

  function start(taskId: string, work: Promise<void>): void {
    const done = work
      .catch((error: unknown) => {
        if (!stop.signal.aborted) log.error({ err: error, taskId }, "push notifications of a task were given up");
      })
      .finally(() => active.delete(done));
    active.add(done);
  }

  /** Gives the news of a task to those who are its configs now. */
  async function handOut(news: News, key: string): Promise<void> {
    const { workspaceId, taskId } = news;
    try {
      while (news.after < news.until) {
        await inLookup(async () => {
          stop.signal.throwIfAborted();
          // Taken before the look: a config that the look misses has no right to anything older.
          const { until } = news;
          for (const config of await read(() => configs.list(workspaceId, taskId, { limit: MAX_CONFIGS }))) {
            if (!givenUp.has(identityOf(workspaceId, config))) give({ ...news, until, configId: config.id });
          }
          news.after = until;
        });
      }
    } finally {
      // In the same turn as the last look at `until`: what is committed from now on is new news.
      newsByTask.delete(key);
    }
  }

  /** Lets the reader of a config read on, or starts one. */
  function give(reader: Reader): void {
    const { workspaceId, taskId, configId, until } = reader;
    const key = `${workspaceId} ${taskId} ${configId}`;
    const known = readers.get(key);
    if (known) {
      known.until = Math.max(known.until, until);
    } else if (readers.size >= maxReaders) {
      deps.onDelivery("failed");
      log.warn({ taskId, configId, maxReaders }, "push notifications were dropped: too many others wait");
    } else {
      readers.set(key, reader);
      start(taskId, serve(reader, key));
    }
  }

  async function serve(reader: Reader, key: string): Promise<void> {
    const { workspaceId, taskId, configId } = reader;
    try {
      for (let attempt = 0; reader.after < reader.until; ) {
        const failure = await inPost(() => postNext(reader));
        attempt = failure ? attempt + 1 : 0;
        if (!failure) continue;
        const facts = { err: failure.error, taskId, configId, seq: failure.seq, attempt };
        if (attempt >= deps.attempts) {
          giveUp(identityOf(workspaceId, failure.config));
          log.warn(facts, "a webhook was given up for its task");
          return;
        }
        log.info(facts, "a push notification failed; trying again");
        await runtime.wait(backoffMs(attempt - 1, RETRY_BASE_MS, RETRY_MAX_MS, runtime.random), stop.signal);
      }
    } finally {
      // In the same turn as the last look at `until`.
      readers.delete(key);
    }
  }

  /**
   * Posts the update that is a reader's next and moves the reader on, or returns what failed. Update and config are read
   * for each try: a reader that waits holds no more than its cursor, and a config deleted meanwhile gets no more.
   */
  async function postNext(reader: Reader): Promise<Failure | undefined> {
    stop.signal.throwIfAborted();
    const { workspaceId, taskId, configId } = reader;
    const [update] = await read(() => store.readUpdates(workspaceId, taskId, reader.after, 1));
    const config = await read(() => configs.get(workspaceId, taskId, configId));
    if (!update || !config) {
      reader.after = reader.until;
      return undefined;
    }
    if (update.kind === "status" || update.kind === "artifact") {
      const body = JSON.stringify(withMilliseconds(StreamResponseSchema, toJson(StreamResponseSchema, update.body)));
      try {
        await webhooks.post(config.url, body, headersOf(config), { signal: stop.signal, timeoutMs: deps.timeoutMs });
      } catch (error) {
        stop.signal.throwIfAborted();
        return { config, seq: update.seq, error };
      }
      deps.onDelivery("delivered");
    }
    reader.after = update.seq;
    return undefined;
  }

  function giveUp(identity: string): void {
    deps.onDelivery("failed");
    givenUp.add(identity);
    if (givenUp.size <= MAX_READERS) return;
    // What is forgotten costs another round of tries, no more.
    const [oldest] = givenUp;
    givenUp.delete(oldest!);
  }

  return {
    async stop() {
      unsubscribe();
      stop.abort();
      await Promise.allSettled(active);
    },
  };
}

/** A config as it is: one that is replaced by another of its id is another, and gets a chance of its own. */
function identityOf(workspaceId: string, config: TaskPushNotificationConfig): string {
  const body = toBinary(TaskPushNotificationConfigSchema, config);
  return createHash("sha256").update(`${workspaceId} `).update(body).digest("base64");
}

function headersOf(config: TaskPushNotificationConfig): Record<string, string> {
  const { authentication, token } = config;
  return {
    ...(authentication && { authorization: `${authentication.scheme} ${authentication.credentials}`.trim() }),
    ...(token !== "" && { "x-a2a-notification-token": token }),
  };
}
