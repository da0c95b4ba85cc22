/** What is done without being asked, beside carrying tasks: webhooks, the outbox, and forgetting what has had its time. */
import { startExchangeSweep } from "../services/background/exchange-sweep.ts";
import { type Outbox, startOutbox } from "../services/background/outbox.ts";
import { startPushNotifications } from "../services/background/push-notifications.ts";
import { createReputationDuty, REPUTATION_DUTY } from "../services/background/reputation-duty.ts";
import { startSweep } from "../services/background/sweep.ts";
import { startTaskRetention, type TaskRetentionDuty } from "../services/background/task-retention.ts";
import { createExchangeRetention } from "../store/exchange-retention.ts";
import { createExpiredRows } from "../store/expired-rows.ts";
import { createOutboxRepository } from "../store/outbox-repository.ts";
import { createPushQueue } from "../store/push-queue.ts";
import { createTaskRetention } from "../store/task-retention.ts";
import type { Clients } from "./clients.ts";
import type { Ground } from "./ground.ts";
import type { EngineBase } from "./options.ts";
import type { PolicyParts } from "./policy.ts";
import type { RoutingParts } from "./routing.ts";

export interface Duties {
  readonly outbox: Outbox;
  readonly retention: TaskRetentionDuty;
}

export async function startDuties(
  base: EngineBase,
  { hub, replica }: Ground,
  { webhooks }: Clients,
  { reputationRepository, trustRules }: PolicyParts,
  { watch }: RoutingParts,
): Promise<Duties> {
  const { db, config, log, runtime, closing } = base;
  const push = startPushNotifications({
    queue: createPushQueue(db),
    webhooks,
    runtime,
    log,
    replicaId: replica.id,
    attempts: config.push.attempts,
    timeoutMs: config.push.timeoutMs,
    onDelivery: base.onDelivery,
  });
  closing.push(() => push.stop());
  const reputation = createReputationDuty({
    repository: reputationRepository,
    directory: watch.directory,
    rules: trustRules,
    runtime,
    onOutcomes({ good, bad, neutral }) {
      base.onReputation("good", good);
      base.onReputation("bad", bad);
      base.onReputation("neutral", neutral);
    },
  });
  const outbox = await startOutbox({
    ...(config.reputation.enabled
      ? { duties: [push.duty, reputation] }
      : { duties: [push.duty], idle: [REPUTATION_DUTY] }),
    repository: createOutboxRepository(db),
    hub,
    runtime,
    log,
    replicaId: replica.id,
  });
  closing.push(() => outbox.stop());
  const exchangeSweep = startExchangeSweep({
    retention: createExchangeRetention(db),
    runtime,
    log,
    keepMs: config.exchange.keepMs,
  });
  closing.push(() => exchangeSweep.stop());
  const sweep = startSweep({ rows: createExpiredRows(db), runtime, log, maxResults: config.cache.maxEntries });
  closing.push(() => sweep.stop());
  const retention = startTaskRetention({
    retention: createTaskRetention(db, config.audit.enabled ? replica.id : undefined),
    hub,
    runtime,
    log,
    replicaId: replica.id,
    keep: config.retention,
    onRemoved: base.onRemoved,
  });
  closing.push(() => retention.stop());
  return { outbox, retention };
}
