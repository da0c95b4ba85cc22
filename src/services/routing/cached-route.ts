/** The route of a task that no agent is asked for. */
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { RouteSource } from "../../../gen/signalbox/v1/routing_pb.ts";
import type { RoutingWishes } from "../../domain/routing-extension.ts";
import type { Offer } from "../agent-directory.ts";
import type { Route } from "../router.ts";

/** To the agent of whom the result comes. Nothing was chosen. */
export const cachedRoute = ({ agent, capability }: Offer, wishes: RoutingWishes, now: Date): Route => ({
  agent,
  capability,
  wishes,
  decision: {
    $typeName: "signalbox.v1.RouteDecision",
    taskId: "",
    time: timestampFromDate(now),
    source: RouteSource.CACHE,
    agentId: agent.agentId,
    capabilityId: capability.capabilityId,
    strategy: "",
    seed: 0,
    candidates: [],
    candidateCount: 0,
    cuts: [],
    matches: [],
    settingsRevision: 0,
    turn: 0,
  },
});
