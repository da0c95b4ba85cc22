/** What the rest of the engine stands on: this replica among the others, the log of tasks, and what wakes its readers. */
import { HOME_WORKSPACE } from "../domain/identity/principal.ts";
import { type Audit, createAudit } from "../services/audit.ts";
import { type Refusals, startRefusals } from "../services/audit-refusals.ts";
import { type Hints, startHints } from "../services/background/hints.ts";
import { joinReplicas, type Replica } from "../services/background/replica.ts";
import { startSlowPoll } from "../services/background/slow-poll.ts";
import type { SecretBox } from "../services/identity/secret-box.ts";
import { createUpdateHub, type UpdateHub } from "../services/update-hub.ts";
import {
  type AgentCredentialRepository,
  createAgentCredentialRepository,
} from "../store/agent-credential-repository.ts";
import { type AgentRepository, createAgentRepository } from "../store/agent-repository.ts";
import { type ApprovalRepository, createApprovalRepository } from "../store/approval-repository.ts";
import { type AuditTrail, createAuditTrail, recordSilence } from "../store/audit-trail.ts";
import { type CapabilityRepository, createCapabilityRepository } from "../store/capability-repository.ts";
import { createLeaseRepository, type LeaseRepository } from "../store/lease-repository.ts";
import { createRolloutRepository, type RolloutRepository } from "../store/rollout-repository.ts";
import { createTaskStore, type TaskStore } from "../store/task-store.ts";
import { type BusKind, chooseBus } from "./bus.ts";
import type { EngineBase } from "./options.ts";

export interface Ground {
  readonly leases: LeaseRepository;
  readonly replica: Replica;
  readonly hub: UpdateHub;
  readonly store: TaskStore;
  readonly hints: Hints;
  /** By what hints come. */
  readonly busKind: BusKind;
  readonly trail: AuditTrail;
  readonly audit: Audit;
  readonly refusals: Refusals;
  /** Keeps what this server must know of others' secrets. */
  readonly secrets: SecretBox;
  /** The repositories that more than one part works with. */
  readonly repositories: {
    readonly agents: AgentRepository;
    readonly agentCredentials: AgentCredentialRepository;
    readonly approvals: ApprovalRepository;
    readonly capabilities: CapabilityRepository;
    readonly rollouts: RolloutRepository;
  };
}

/** Where what belongs to no workspace is recorded. */
export const OWN_WORKSPACE = HOME_WORKSPACE;

export async function buildGround(base: EngineBase): Promise<Ground> {
  const { db, config, log, runtime, secrets, closing } = base;
  const leases = createLeaseRepository(db, config.audit.enabled);
  const alone = db.backend === "pglite";
  const isAudited = config.audit.enabled;
  const silence = (action: "audit.off" | "audit.on", id: string) => recordSilence(db, id, action, runtime.now());
  const replica = await joinReplicas({
    leases,
    runtime,
    log,
    leaseMs: config.lease.ms,
    alone,
    ...(!isAudited && { onJoin: (id) => silence("audit.off", id) }),
  });
  if (!isAudited) {
    closing.push(() =>
      silence("audit.on", replica.id()).catch((err: unknown) =>
        log.warn({ err }, "the end of an audit gap is not recorded"),
      ),
    );
  }
  const hub = createUpdateHub();
  const trail = createAuditTrail({ db, enabled: isAudited, replicaId: replica.id });
  const audit = createAudit({ trail, runtime, replicaId: replica.id });
  const refusals = startRefusals({ trail, runtime, log, ownWorkspaceId: OWN_WORKSPACE });
  const store = createTaskStore(db, { maxWaiting: config.limits.queue, replicaId: replica.id, isAudited });
  const repositories = {
    agents: createAgentRepository(db),
    agentCredentials: createAgentCredentialRepository(db),
    approvals: createApprovalRepository(db),
    capabilities: createCapabilityRepository(db),
    rollouts: createRolloutRepository(db),
  };
  const poll = startSlowPoll({ store, hub, runtime, log, everyMs: config.stream.pollMs });
  const bus = await chooseBus(base);
  const hints = startHints({ openBus: bus.open, hub, poll, runtime, log });
  // Once nothing writes any more, this replica's tasks are free, and the others hear of it.
  closing.push(() => hints.stop());
  closing.push(() => replica.stop().then(() => hub.announceWork()));
  closing.push(() => store.close());
  closing.push(() => refusals.stop());
  closing.push(() => poll.stop());
  return { leases, replica, hub, store, hints, busKind: bus.kind, trail, audit, refusals, secrets, repositories };
}
