/**
 * Posts updates to the webhooks of their tasks (A2A specification, section 4.3.3): each at least once, and in order for each
 * config. A duty of the outbox tells configs that there is something for them; whichever replica has a place free claims
 * those that are due, posts outside any transaction, and moves their cursors on. What a replica had claimed when it died is
 * claimed by others, and what nobody has posted when all stop is posted when one starts.
 *
 * An update has a bounded number of tries; when they are used up, the config is given up for its task, so that a dead
 * webhook costs no more than that. A config that waits to be tried again holds neither place nor memory.
 */
import type { Logger } from "pino";
import type { OutboxRow } from "../../store/outbox-repository.ts";
import type { PushClaim, PushQueue } from "../../store/push-queue.ts";
import type { TaskNumber } from "../../store/task-reads.ts";
import type { WebhookSender } from "../agent-port.ts";
import { whenDatabaseAnswers } from "../database-away.ts";
import { backoffMs, type Runtime } from "../runtime.ts";
import { createAlarm } from "./alarm.ts";
import type { Duty } from "./outbox.ts";
import { postUpdate } from "./webhook-post.ts";

/** Pause before the second try, and the longest pause, in milliseconds. */
const RETRY_BASE_MS = 500;
const RETRY_MAX_MS = 30_000;
/** Configs that this replica posts to at once. */
const PLACES = 64;
/** A config gives its place back after so many posts, or so many milliseconds, and waits for its next turn. */
const TURN = { posts: 32, ms: 1_000 };
/** How often to look for what other replicas have left, in milliseconds. */
const POLL_MS = 1_000;

export interface PushDeps {
  queue: PushQueue;
  webhooks: WebhookSender;
  runtime: Runtime;
  log: Logger;
  /** Who claims. Asked for each claim: a replica that was declared dead goes on under another id. */
  replicaId: () => string;
  /** Tries of one update at one webhook. */
  attempts: number;
  timeoutMs: number;
  /** `failed`: a config was given up for its task. */
  onDelivery: (outcome: "delivered" | "failed") => void;
}

export interface PushNotifications {
  /** Tells configs of what is new. For the outbox. */
  readonly duty: Duty;
  /** Gives up what is under way and waits for it. */
  stop(): Promise<void>;
}

/** What became of the next update of a config. */
interface Posted {
  /** Everything up to this number needs no more posting. */
  posted: number;
  /** Set when it was tried in vain. */
  failure?: { seq: number; error: unknown };
}

export function startPushNotifications(deps: PushDeps): PushNotifications {
  const { queue, webhooks, runtime, log } = deps;
  const stop = new AbortController();
  const { signal } = stop;
  const alarm = createAlarm();
  /** What this replica has claimed, and posts. */
  const claims = new Set<PushClaim>();
  const turns = new Set<Promise<void>>();
  /** Whether all places were taken at the last look: others may wait for one. */
  let crowded = false;

  const query = <T>(work: () => Promise<T>): Promise<T> => whenDatabaseAnswers(runtime, signal, work);

  async function keepClaiming(): Promise<void> {
    while (!signal.aborted) {
      try {
        await claimDue();
        await alarm.sleep(crowded ? POLL_MS : await query(() => queue.untilDue(POLL_MS)), signal);
      } catch (error) {
        if (signal.aborted) return;
        log.error({ err: error }, "webhooks could not be looked after; trying again");
        await runtime.wait(POLL_MS, signal).catch(() => {});
      }
    }
  }

  async function claimDue(): Promise<void> {
    const free = PLACES - claims.size;
    const due = free > 0 ? await query(() => queue.claim(deps.replicaId(), free, [...claims])) : [];
    crowded = due.length === free;
    for (const claim of due) {
      claims.add(claim);
      const turn = serve(claim)
        .catch(async (error: unknown) => {
          if (signal.aborted) return;
          log.error({ err: error, taskId: claim.taskId, configId: claim.configId }, "a webhook's turn broke off");
          // The config is due still: without a pause this would be all that happens.
          await runtime.wait(RETRY_MAX_MS, signal).catch(() => {});
        })
        .finally(() => {
          claims.delete(claim);
          turns.delete(turn);
          if (crowded) alarm.ring();
        });
      turns.add(turn);
    }
  }

  /** Posts what a config has yet to get, until it has all, its turn is over, or a post fails. */
  async function serve(claim: PushClaim): Promise<void> {
    const ends = runtime.elapsedMs() + TURN.ms;
    for (let posts = 1; ; posts++) {
      const { posted, failure } = await postNext(claim);
      if (failure) return fail(claim, failure);
      const over = posts >= TURN.posts || runtime.elapsedMs() >= ends;
      const settled = await query(() =>
        queue.settle({ ...claim, posted, tries: 0, verdict: over ? { pauseMs: 0 } : "go-on" }),
      );
      if (!settled?.goesOn) {
        if (over) alarm.ring();
        return;
      }
      Object.assign(claim, { posted, reach: settled.reach, tries: 0 });
    }
  }

  async function postNext(claim: PushClaim): Promise<Posted> {
    const update = await query(() => queue.next(claim));
    if (!update) return { posted: claim.reach };
    try {
      await postUpdate(webhooks, claim.config, update, { signal, timeoutMs: deps.timeoutMs });
    } catch (error) {
      signal.throwIfAborted();
      return { posted: claim.posted, failure: { seq: update.seq, error } };
    }
    deps.onDelivery("delivered");
    return { posted: update.seq };
  }

  async function fail(claim: PushClaim, { seq, error }: { seq: number; error: unknown }): Promise<void> {
    const { taskId, configId, posted } = claim;
    const tries = claim.tries + 1;
    const givenUp = tries >= deps.attempts;
    const pauseMs = backoffMs(tries - 1, RETRY_BASE_MS, RETRY_MAX_MS, runtime.random);
    const settled = await query(() =>
      queue.settle({ ...claim, posted, tries, verdict: givenUp ? "give-up" : { pauseMs } }),
    );
    if (!settled) return;
    const facts = { err: error, taskId, configId, seq, attempt: tries };
    if (givenUp) {
      deps.onDelivery("failed");
      log.warn(facts, "a webhook was given up for its task");
    } else {
      log.info(facts, "a push notification failed; trying again");
      alarm.ring();
    }
  }

  const claiming = keepClaiming();
  return {
    duty: {
      name: "push",
      topic: "webhooks",
      async handle(rows) {
        await queue.mark(latest(rows));
        alarm.ring();
      },
    },
    async stop() {
      stop.abort();
      await claiming;
      await Promise.all(turns);
      await queue.close();
    },
  };
}

/** The last row of each task. */
function latest(rows: readonly OutboxRow[]): TaskNumber[] {
  const byTask = new Map(rows.map((row) => [`${row.workspaceId} ${row.taskId}`, row]));
  return [...byTask.values()].map(({ workspaceId, taskId, seq }) => ({ workspaceId, taskId, seq }));
}
