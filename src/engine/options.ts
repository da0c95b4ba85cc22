/** What an engine is started with, and what each of its parts is built from. */
import type { Logger } from "pino";
import type { Config } from "../config/settings.ts";
import type { LimitName } from "../domain/identity/quotas.ts";
import type { PolicyPhase } from "../domain/policy/facts.ts";
import type { Verdict } from "../domain/policy/verdict.ts";
import type { AgentHandler } from "../outbound/in-process-channel.ts";
import type { ApprovalOutcome } from "../services/approvals/waiting-tasks.ts";
import type { Retained } from "../services/background/task-retention.ts";
import type { Scheme } from "../services/identity/credentials.ts";
import type { SecretBox } from "../services/identity/secret-box.ts";
import type { LookupOutcome } from "../services/lookup-counts.ts";
import type { MirrorOutcome } from "../services/mirrors.ts";
import type { Runtime } from "../services/runtime.ts";
import type { HedgeOutcome } from "../services/task-hedge.ts";
import type { Database } from "../store/database.ts";
import type { OpenDatabaseOptions } from "../store/open-database.ts";
import type { Closing } from "./closing.ts";

/** Who is told what happens, to count it. */
export interface EngineListeners {
  /** Told of push notifications. */
  onDelivery(outcome: "delivered" | "failed"): void;
  /** Told of tasks that this replica took, because they were due or their replica is gone. */
  onTaken(how: "claimed" | "rescued", tasks: number): void;
  /** Told of each attempt that failed and is followed by another. */
  onAttemptFailed(): void;
  /** Told how each lookup in the result cache ended. */
  onCacheLookup(outcome: LookupOutcome): void;
  /** Told how each second request, and each copy of a task, came out. */
  onHedge(outcome: HedgeOutcome): void;
  onMirror(outcome: MirrorOutcome): void;
  /** Told what becomes of approvals. */
  onApproval(outcome: ApprovalOutcome): void;
  /** Told of each policy that was taken over, or refused: of the server's files, or of a workspace. */
  onPolicyReload(result: "loaded" | "refused"): void;
  /** Told of each verdict of a policy. */
  onPolicyVerdict(phase: PolicyPhase, effect: Verdict["effect"]): void;
  /** Told what was taken into the reputation of agents: ends of tasks, and what judges reported. */
  onReputation(outcome: "good" | "bad" | "neutral" | "report", count: number): void;
  /** Told of each check of an agent. */
  onCheck(outcome: "passed" | "failed"): void;
  /** Told of each task that is refused because a budget, or its parent, has too little left. */
  onBudgetRefused(): void;
  /** Told of what a task cost beyond what its budget had left, in millionths of the currency. */
  onBudgetOverrun(micros: number): void;
  /** Told how many tasks, and contents of artifacts, were removed because they had been kept long enough. */
  onRemoved(what: Retained, count: number): void;
  /** Told of each call, task and stream that is refused because of a limit. */
  onLimited(limit: LimitName): void;
}

interface EngineSetup {
  config: Config;
  log: Logger;
  runtime: Runtime;
  /** Agents that are functions in this process, by name. */
  inProcess?: ReadonlyMap<string, AgentHandler> | undefined;
  /** Opens the database, in place of `openDatabase` of the store: for those who look into it beside the engine. */
  openDatabase?: ((options: OpenDatabaseOptions) => Promise<Database>) | undefined;
  /** Ways to say who one is beside those that are configured, asked before them. */
  schemes?: readonly Scheme[] | undefined;
}

export interface EngineOptions extends EngineSetup, Partial<EngineListeners> {
  /** Gives up the start, while the database is waited for. */
  signal?: AbortSignal | undefined;
}

/** What every part is built from, beside the parts before it. */
export interface EngineBase extends EngineSetup, EngineListeners {
  db: Database;
  /** Keeps what this server must know of others' secrets. */
  secrets: SecretBox;
  /** Where each part that must be closed adds how. */
  closing: Closing;
}
