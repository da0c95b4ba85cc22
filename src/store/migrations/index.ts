/** All migrations in their order. A migration that was released never changes: a later one mends it. */
import type { Migration } from "kysely/migration";
import { up as foundation } from "./0001-foundation.ts";
import { up as engine } from "./0002-engine.ts";
import { up as webhookCursors } from "./0003-webhook-cursors.ts";
import { up as leanTasks } from "./0004-lean-tasks.ts";
import { up as capabilities } from "./0005-capabilities.ts";
import { up as taskCapability } from "./0006-task-capability.ts";
import { up as concurrency } from "./0007-concurrency.ts";
import { up as agentHealth } from "./0008-agent-health.ts";
import { up as rollouts } from "./0009-rollouts.ts";
import { up as cacheAndKeys } from "./0010-cache-and-keys.ts";
import { up as exchanges } from "./0011-exchanges.ts";
import { up as routingSettings } from "./0012-routing-settings.ts";
import { up as reroutedTasks } from "./0013-rerouted-tasks.ts";
import { up as audit } from "./0014-audit.ts";
import { up as auditLog } from "./0015-audit-log.ts";
import { up as policies } from "./0016-policies.ts";
import { up as approvals } from "./0017-approvals.ts";
import { up as budgets } from "./0018-budgets.ts";
import { up as reputation } from "./0019-reputation.ts";
import { up as heldUpdates } from "./0020-held-updates.ts";
import { up as heldAttempts } from "./0021-held-attempts.ts";
import { up as budgetSweeps } from "./0022-budget-sweeps.ts";
import { up as auditChainsReopen } from "./0023-audit-chains-reopen.ts";
import { up as identity } from "./0024-identity.ts";
import { up as owners } from "./0025-owners.ts";
import { up as keyLives } from "./0026-key-lives.ts";
import { up as suspension } from "./0027-suspension.ts";
import { up as limits } from "./0028-limits.ts";
import { up as retention } from "./0029-retention.ts";
import { up as listing } from "./0030-listing.ts";
import { up as installation } from "./0031-installation.ts";

export const migrations: Record<string, Migration> = {
  "0001-foundation": { up: foundation },
  "0002-engine": { up: engine },
  "0003-webhook-cursors": { up: webhookCursors },
  "0004-lean-tasks": { up: leanTasks },
  "0005-capabilities": { up: capabilities },
  "0006-task-capability": { up: taskCapability },
  "0007-concurrency": { up: concurrency },
  "0008-agent-health": { up: agentHealth },
  "0009-rollouts": { up: rollouts },
  "0010-cache-and-keys": { up: cacheAndKeys },
  "0011-exchanges": { up: exchanges },
  "0012-routing-settings": { up: routingSettings },
  "0013-rerouted-tasks": { up: reroutedTasks },
  "0014-audit": { up: audit },
  "0015-audit-log": { up: auditLog },
  "0016-policies": { up: policies },
  "0017-approvals": { up: approvals },
  "0018-budgets": { up: budgets },
  "0019-reputation": { up: reputation },
  "0020-held-updates": { up: heldUpdates },
  "0021-held-attempts": { up: heldAttempts },
  "0022-budget-sweeps": { up: budgetSweeps },
  "0023-audit-chains-reopen": { up: auditChainsReopen },
  "0024-identity": { up: identity },
  "0025-owners": { up: owners },
  "0026-key-lives": { up: keyLives },
  "0027-suspension": { up: suspension },
  "0028-limits": { up: limits },
  "0029-retention": { up: retention },
  "0030-listing": { up: listing },
  "0031-installation": { up: installation },
};
