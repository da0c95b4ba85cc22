/** signalbox.v1.RoutingService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { RoutingService } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { Routes } from "../../services/routes.ts";
import { requestContextOf } from "./bind.ts";

export function createRoutingService(routes: Routes): ServiceImpl<typeof RoutingService> {
  return {
    previewRoute: (request, context) => routes.preview(requestContextOf(context), request),
    getRouteDecision: (request, context) => routes.decision(requestContextOf(context), request),
    getRoutingSettings: (_, context) => routes.settings.get(requestContextOf(context)),
    updateRoutingSettings: (request, context) => routes.settings.update(requestContextOf(context), request),
    replayRoutes: (request, context) => routes.replay(requestContextOf(context), request),
  };
}
