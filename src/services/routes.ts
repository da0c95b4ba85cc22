/** Which agent a task would go to, why one went where it did, and what would have come of other rules. */
import { fromBinary } from "@bufbuild/protobuf";
import { SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  type GetRouteDecisionRequest,
  type PreviewRouteRequest,
  type RouteDecision,
  RouteDecisionSchema,
} from "../../gen/signalbox/v1/routing_pb.ts";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import { sendViolations } from "../domain/message-rules.ts";
import { refuse } from "../domain/refusal.ts";
import { missingFields } from "../domain/required-fields.ts";
import type { RequestContext } from "./request-context.ts";
import type { Router } from "./router.ts";
import { createReplayRoutes, type ReplayDeps, type ReplayRoutes } from "./routing/replay-routes.ts";
import type { WorkspaceSettings } from "./routing/workspace-settings.ts";
import type { Tasks } from "./tasks.ts";

export interface Routes {
  /** What would be decided of a message now. Nothing is stored, and no strategy's turn is taken. */
  preview(context: RequestContext, request: PreviewRouteRequest): Promise<RouteDecision>;
  /** What was decided of a task that the caller may see. */
  decision(context: RequestContext, request: GetRouteDecisionRequest): Promise<RouteDecision>;
  /** How the caller's workspace routes. */
  readonly settings: Pick<WorkspaceSettings, "get" | "update">;
  /** What would have come of past decisions by a draft. */
  readonly replay: ReplayRoutes;
}

export interface RoutesDeps extends ReplayDeps {
  settings: WorkspaceSettings;
  router: Router;
  tasks: Tasks;
  /** The bytes of the decision that was stored with a task. */
  readDecision: (workspaceId: string, taskId: string) => Promise<Uint8Array | undefined>;
}

export function createRoutes(deps: RoutesDeps): Routes {
  const { router, tasks, settings, readDecision } = deps;
  return {
    settings,
    replay: createReplayRoutes(deps),

    async preview(context, { request }) {
      if (!request) throw invalidArgument([{ field: "request", description: "is required: what would be sent" }]);
      const violations = [...missingFields(SendMessageRequestSchema, request), ...sendViolations(request)];
      refuse(violations.map(({ field, description }) => ({ field: `request.${field}`, description })));
      const { message } = request;
      if (!message) throw invalidArgument([{ field: "request.message", description: "is required" }]);
      if (message.taskId !== "") {
        const description = "names a task, which stays with its agent; leave it out";
        throw invalidArgument([{ field: "request.message.taskId", description }]);
      }
      return router.preview(context, request, message);
    },

    async decision(context, { taskId }) {
      await tasks.visible(context, "", taskId);
      const stored = await readDecision(context.workspaceId, taskId);
      if (!stored) throw noDecision(taskId);
      return { ...fromBinary(RouteDecisionSchema, stored), taskId };
    },
  };
}

const noDecision = (taskId: string) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "NO_DECISION",
    message: `No decision is kept of task "${taskId}": it was accepted by a version that kept none.`,
    metadata: { taskId },
  });
