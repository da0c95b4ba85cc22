/**
 * Tasks that no agent can take, where the workspace wants to see them: each is stored whole in one write, REJECTED, with the
 * reason as its status message. No replica ever carries one, so it needs no agent.
 */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Message, type SendMessageRequest, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { type RouteDecision, RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { agentText, messageUpdate, statusUpdate } from "../domain/agent-report.ts";
import { decisionFacts } from "../domain/audit/decision-facts.ts";
import { encode } from "../domain/encode.ts";
import { foldTask, type TaskHeader, type TaskImage } from "../domain/task-log.ts";
import { EngineState } from "../domain/task-state.ts";
import type { TaskStore } from "../store/task-store.ts";
import type { KeyHold } from "./idempotency.ts";
import type { PushConfigs } from "./push-configs.ts";
import type { RequestContext } from "./request-context.ts";
import type { Router } from "./router.ts";
import type { Runtime } from "./runtime.ts";
import type { UpdateHub } from "./update-hub.ts";

/** The agent of a task that none could take: no agent has this id. */
const NO_AGENT = "";

export interface RejectDeps {
  store: TaskStore;
  hub: UpdateHub;
  router: Router;
  pushConfigs: PushConfigs;
  runtime: Runtime;
}

/** A message that no agent can take. */
export interface Unroutable {
  /** What the task is to be called. */
  readonly taskId: string;
  readonly message: Message;
  readonly contextId: string;
  /** What its client is told. */
  readonly why: string;
  /** What is kept of where an agent was looked for. */
  readonly decision: RouteDecision;
  /** On its key, if it has one. */
  readonly keyHold: KeyHold | undefined;
}

/** Resolves with the task, which has ended, when it is durable. */
export type RejectTask = (
  context: RequestContext,
  request: SendMessageRequest,
  given: Unroutable,
) => Promise<TaskImage>;

export const createRejectTask =
  ({ store, hub, router, pushConfigs, runtime }: RejectDeps): RejectTask =>
  async (context, request, { taskId, message, contextId, why, decision, keyHold }) => {
    const { workspaceId } = context;
    const pushConfig = request.configuration?.taskPushNotificationConfig;
    const pushing = pushConfig && (await pushConfigs.prepare(context, pushConfig));
    // It is seen through the target that it was sent to.
    const target = await router.target(context, request.tenant);
    const header: TaskHeader = {
      workspaceId,
      taskId,
      contextId,
      owner: context.principal.id,
      agentId: target?.kind === "agent" ? target.agent.agentId : NO_AGENT,
      capabilityId: target?.kind === "capability" ? target.capabilityId : undefined,
      createdAt: runtime.now(),
      deadlineAt: undefined,
      priority: "NORMAL",
      disclosed: true,
      hasPush: pushing !== undefined,
      upstreamTaskId: undefined,
      upstreamContextId: undefined,
      fence: 1,
      leaseOwner: undefined,
      attempt: 0,
      delivery: {},
    };
    const status = {
      state: TaskState.REJECTED,
      timestamp: timestampFromDate(header.createdAt),
      message: agentText(header, runtime.newId(), why),
    };
    const updates = [
      { ...messageUpdate({ ...message, taskId: header.taskId, contextId }), state: EngineState.QUEUED },
      statusUpdate(header, status, "no agent can take it"),
    ];
    await store.submit({
      header,
      updates,
      decision: encode(RouteDecisionSchema, decision),
      accepted: {
        by: context.principal.id,
        actors: context.principal.actors,
        facts: decisionFacts(decision),
      },
      ...(keyHold && { reservedBy: keyHold.replicaId }),
    });
    await pushing?.store(workspaceId, header.taskId, "start");
    const rows = updates.map((update, i) => ({ ...update, seq: i + 1 }));
    const { agentId, hasPush } = header;
    hub.publish({ workspaceId, taskId, agentId, updates: rows, hasPush });
    return foldTask(header, rows);
  };
