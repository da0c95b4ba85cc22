/** signalbox.v1.RolloutService over the use cases. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { RolloutService } from "../../../gen/signalbox/v1/rollout_pb.ts";
import type { Alerts } from "../../services/alerts.ts";
import type { RolloutSettings } from "../../services/rollout-settings.ts";
import { requestContextOf } from "./bind.ts";

export function createRolloutService(
  settings: RolloutSettings,
  alerts: Pick<Alerts, "list">,
): ServiceImpl<typeof RolloutService> {
  return {
    getRollout: (request, context) => settings.get(requestContextOf(context), request.capabilityId),
    updateRollout: (request, context) => settings.update(requestContextOf(context), request),
    deleteRollout: async (request, context) => {
      await settings.remove(requestContextOf(context), request.capabilityId);
      return {};
    },
    listRollouts: async (_, context) => ({ rollouts: await settings.list(requestContextOf(context)) }),
    listAlerts: async ({ crossedOnly }, context) => {
      const found = await alerts.list(requestContextOf(context).workspaceId);
      return { alerts: crossedOnly ? found.filter(({ crossed }) => crossed) : found };
    },
  };
}
