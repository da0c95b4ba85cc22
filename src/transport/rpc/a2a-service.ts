/** lf.a2a.v1.A2AService: the standard's service over the use cases. */

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { A2AService, StreamResponse } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Cards } from "../../services/cards.ts";
import type { PushConfigs } from "../../services/push-configs.ts";
import type { Numbered, Sender } from "../../services/send.ts";
import type { Tasks } from "../../services/tasks.ts";
import { requestContextOf } from "./bind.ts";
import { setSequence } from "./bound.ts";

export interface A2AServiceDeps {
  sender: Sender;
  tasks: Tasks;
  pushConfigs: PushConfigs;
  cards: Cards;
}

export function createA2AService({
  sender,
  tasks,
  pushConfigs,
  cards,
}: A2AServiceDeps): ServiceImpl<typeof A2AService> {
  return {
    sendMessage: (request, context) => sender.send(requestContextOf(context), request),
    sendStreamingMessage: (request, context) => numbered(sender.stream(requestContextOf(context), request)),
    getTask: (request, context) => tasks.get(requestContextOf(context), request),
    listTasks: (request, context) => tasks.list(requestContextOf(context), request),
    cancelTask: (request, context) => tasks.cancel(requestContextOf(context), request),
    subscribeToTask: (request, context) => numbered(sender.subscribe(requestContextOf(context), request)),
    createTaskPushNotificationConfig: (request, context) => pushConfigs.create(requestContextOf(context), request),
    getTaskPushNotificationConfig: (request, context) => pushConfigs.get(requestContextOf(context), request),
    listTaskPushNotificationConfigs: (request, context) => pushConfigs.list(requestContextOf(context), request),
    deleteTaskPushNotificationConfig: async (request, context) => {
      await pushConfigs.remove(requestContextOf(context), request);
      return create(EmptySchema);
    },
    getExtendedAgentCard: (request, context) => cards.extended(requestContextOf(context), request.tenant),
  };
}

async function* numbered(items: AsyncIterable<Numbered>): AsyncGenerator<StreamResponse> {
  for await (const { response, sequence } of items) yield setSequence(response, sequence);
}
