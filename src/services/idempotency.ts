/**
 * Requests that are sent again. A request with a key reserves it before anything comes of it; who comes later with the same
 * key and the same request gets the task of the first, as it stands, and who comes with another request is refused.
 */
import type { Logger } from "pino";
import { type Message, Role, type SendMessageRequest } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import { requestDigest } from "../domain/request-digest.ts";
import {
  IDEMPOTENCY_KEY,
  IDEMPOTENCY_KEY_RULE,
  ROUTING_EXTENSION,
  routingWishes,
} from "../domain/routing-extension.ts";
import { foldTask, type TaskImage } from "../domain/task-log.ts";
import { isOutcomeUnknown } from "../store/database-errors.ts";
import type { IdempotencyRepository, Reservation, Reserved } from "../store/idempotency-repository.ts";
import type { StoredTask } from "../store/task-reads.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { RequestContext } from "./request-context.ts";
import { NOT_ACKNOWLEDGED } from "./runners.ts";
import { backoffMs, type Runtime } from "./runtime.ts";

/** A reservation of which nothing has come for so long is free, though its replica lives, in milliseconds. */
const ABANDONED_MS = 60_000;
/** So long after its key was reserved a request may still begin its task: half of the time, the rest is for storing it. */
const MOST_DELAY_MS = ABANDONED_MS / 2 - 5_000;
/** How long a request waits for what comes of the first one with its key, in milliseconds. */
const MOST_WAIT_MS = 15_000;
/** Bounds of the pause between two looks, in milliseconds. */
const LOOK_MIN_MS = 10;
const LOOK_MAX_MS = 500;

export interface IdempotencyDeps {
  repository: IdempotencyRepository;
  store: Pick<TaskStore, "load">;
  dispatcher: Pick<Dispatcher, "disclose">;
  runtime: Runtime;
  log: Logger;
  replicaId: () => string;
  /** How long a key is kept, in milliseconds. */
  keepMs: number;
  /** Whether the id of a message is the key of a request that brings none. */
  byMessageId: boolean;
}

/** Where a request stands: what it would begin, or go on with. */
export interface Place {
  /** The task. */
  taskId: string;
  /** Number of the last row of its log; 0 for one that is to be begun. */
  afterSeq: number;
}

/** A key that is reserved for a request. */
export interface KeyHold {
  /** The replica that has reserved it. A task that is stored by another one, or by this one under another id, is too late. */
  readonly replicaId: string;
  /** Throws when the key may be another request's by now. */
  check(): void;
}

export interface Idempotency {
  /**
   * The key of a request; undefined when it has none.
   *
   * @throws SignalboxError INVALID_ARGUMENT for what is no key, and for two that differ.
   */
  keyOf(context: RequestContext, request: SendMessageRequest): string | undefined;
  /**
   * Does a piece of work for the first request with a key. `first` is given the hold on the key, and checks it before
   * it begins. For any other request returns the first one's task as that request's caller may see it.
   *
   * @throws SignalboxError ALREADY_EXISTS, reason IDEMPOTENCY_CONFLICT, when the first request was another; UNAVAILABLE,
   * reason IDEMPOTENCY_IN_PROGRESS, when nothing has come of the first one for too long; and what `first` throws.
   */
  once<T>(
    context: RequestContext,
    request: SendMessageRequest,
    key: string,
    place: Place,
    first: (keyHold: KeyHold) => Promise<T>,
  ): Promise<{ first: T } | { image: TaskImage }>;
}

export function createIdempotency(deps: IdempotencyDeps): Idempotency {
  const { repository, store, dispatcher, runtime, log } = deps;

  function keyOf(context: RequestContext, { message, metadata }: SendMessageRequest): string | undefined {
    const { idempotencyKey: sent } = context;
    if (sent !== undefined && !IDEMPOTENCY_KEY.test(sent)) throw noKey("Idempotency-Key", IDEMPOTENCY_KEY_RULE);
    const wishes = metadata ? routingWishes(metadata) : {};
    if (Array.isArray(wishes)) throw invalidArgument(wishes);
    const { idempotencyKey: wished } = wishes;
    if (sent !== undefined && wished !== undefined && sent !== wished) {
      const field = `metadata["${ROUTING_EXTENSION}"].idempotencyKey`;
      throw noKey(field, "is not what the header Idempotency-Key says; leave one of them out");
    }
    const key = sent ?? wished;
    // So that neither can be taken for the other.
    if (key !== undefined) return `key:${key}`;
    return deps.byMessageId && message ? `message:${message.messageId}` : undefined;
  }

  function digestOf({ addressTarget }: RequestContext, request: SendMessageRequest): Uint8Array {
    try {
      return requestDigest(addressTarget ?? request.tenant, request);
    } catch (cause) {
      const description = "holds what JSON cannot, so the request has no digest to be known by; send it without a key";
      throw invalidArgument([{ field: "message", description }], cause);
    }
  }

  async function lead<T>(
    workspaceId: string,
    reservation: Reservation,
    first: (keyHold: KeyHold) => Promise<T>,
  ): Promise<T> {
    const began = runtime.elapsedMs();
    const { replicaId } = reservation;
    try {
      return await first({
        replicaId,
        check() {
          // What a dead replica reserved is another's at once.
          if (runtime.elapsedMs() - began > MOST_DELAY_MS || deps.replicaId() !== replicaId) throw tooLate();
        },
      });
    } catch (error) {
      // A message that may be stored must not be sent again; a task that may be stored was not acknowledged and will end.
      if (reservation.afterSeq === 0 || !isOutcomeUnknown(error)) {
        await repository.release(workspaceId, reservation).catch((err: unknown) => {
          log.warn({ err }, "the key of a refused request is reserved still; it will be free in a minute");
        });
      }
      throw error;
    }
  }

  /** What came of the request that reserved a key: its task, and the number of its message. `message` if it is the same one. */
  async function outcomeOf(
    workspaceId: string,
    { taskId, afterSeq }: Reserved,
    message: Message | undefined,
  ): Promise<{ stored: StoredTask; seq: number } | undefined> {
    const stored = await store.load(workspaceId, taskId);
    if (!stored || stored.updates.at(-1)?.cause === NOT_ACKNOWLEDGED) return undefined;
    const row = stored.updates.find(({ seq, kind, body: { payload } }) => {
      if (seq <= afterSeq || kind !== "message" || payload.case !== "message") return false;
      const { role, messageId } = payload.value;
      return role === Role.USER && (!message || messageId === message.messageId);
    });
    return row && { stored, seq: row.seq };
  }

  /** The task, as who repeats its request may see it; undefined when it was removed at this moment. */
  async function repeated(
    { workspaceId }: RequestContext,
    { configuration }: SendMessageRequest,
    outcome: { stored: StoredTask; seq: number },
  ): Promise<TaskImage | undefined> {
    let { header, updates } = outcome.stored;
    if (!header.disclosed && configuration?.returnImmediately) {
      await dispatcher.disclose(workspaceId, header.taskId);
      const disclosed = await store.load(workspaceId, header.taskId);
      if (!disclosed) return undefined;
      ({ header, updates } = disclosed);
    }
    // As long as nobody may see it, everyone waits for its agent's answer as the first one does.
    return foldTask(header, header.disclosed ? updates : updates.slice(0, outcome.seq));
  }

  return {
    keyOf,

    async once(context, request, key, place, first) {
      const { workspaceId, principal } = context;
      const digest = digestOf(context, request);
      const began = runtime.elapsedMs();
      for (let looks = 0; ; looks++) {
        const createdAt = runtime.now();
        const expiresAt = new Date(createdAt.getTime() + deps.keepMs);
        const own = { principalId: principal.id, key, digest, ...place, replicaId: deps.replicaId() };
        const reservation: Reservation = { ...own, createdAt, expiresAt };
        const known = await repository.reserve(workspaceId, reservation);
        if (!known) return { first: await lead(workspaceId, reservation, first) };
        const isSame = Buffer.compare(known.digest, digest) === 0;
        const outcome = await outcomeOf(workspaceId, known, isSame ? request.message : undefined);
        if (outcome && isSame) {
          const image = await repeated(context, request, outcome);
          if (image) return { image };
          continue;
        }
        const ageMs = createdAt.getTime() - known.createdAt.getTime();
        if (outcome || (!isSame && known.alive && ageMs < ABANDONED_MS)) throw conflict(known.taskId);
        if (!known.alive || ageMs >= ABANDONED_MS) {
          const taken = await repository.takeOver(workspaceId, known, reservation);
          if (taken) return { first: await lead(workspaceId, reservation, first) };
        }
        if (runtime.elapsedMs() - began >= MOST_WAIT_MS) throw inProgress();
        await runtime.wait(backoffMs(looks, LOOK_MIN_MS, LOOK_MAX_MS, runtime.random), context.signal);
      }
    },
  };
}

const noKey = (field: string, description: string) => invalidArgument([{ field, description }]);

const conflict = (taskId: string) =>
  new SignalboxError({
    code: "ALREADY_EXISTS",
    reason: "IDEMPOTENCY_CONFLICT",
    message: `Another request was sent with this key of idempotency; it has task "${taskId}". Send this one with a key of its own.`,
    metadata: { taskId },
  });

const inProgress = () =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "IDEMPOTENCY_IN_PROGRESS",
    message: "The first request with this key of idempotency is under way, and has no task yet. Send it again later.",
    retryAfterMs: 1000,
  });

const tooLate = () =>
  new SignalboxError({
    code: "UNAVAILABLE",
    reason: "IDEMPOTENCY_EXPIRED",
    message:
      "The request took so long that its key of idempotency may be another's by now. Nothing was stored; send it again.",
    retryAfterMs: 1000,
  });
