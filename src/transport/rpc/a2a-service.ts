/** lf.a2a.v1.A2AService: the standard's service over the use cases. */

import { create } from "@bufbuild/protobuf";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import type { A2AService, StreamResponse } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { SignalboxError, withMetadata } from "../../domain/errors.ts";
import { UPDATES_EXTENSION, withSequence } from "../../domain/updates-extension.ts";
import type { Cards } from "../../services/cards.ts";
import type { PushConfigs } from "../../services/push-configs.ts";
import type { Numbered, Sender } from "../../services/send.ts";
import type { Tasks } from "../../services/tasks.ts";
import { requestContextOf } from "./bind.ts";
import { type EventDialect, eventDialectKey, setSequence } from "./bound.ts";
import { headerOf } from "./call-context.ts";
import { readCursor, refuseResume } from "./resume.ts";

export interface A2AServiceDeps {
  sender: Sender;
  tasks: Tasks;
  pushConfigs: PushConfigs;
  cards: Cards;
  /** How the streams of a capability's tasks, or of tasks without one, are written in JSON; undefined: as they are. */
  eventDialect: (workspaceId: string, capabilityId: string | undefined) => Promise<EventDialect | undefined>;
}

export function createA2AService(deps: A2AServiceDeps): ServiceImpl<typeof A2AService> {
  const { sender, tasks, pushConfigs, cards } = deps;
  return {
    sendMessage: (request, context) => sender.send(requestContextOf(context), request),
    sendStreamingMessage: (request, context) => {
      refuseResume((name) => headerOf(context, name));
      return numbered(deps, context, sender.stream(requestContextOf(context), request));
    },
    getTask: (request, context) => tasks.get(requestContextOf(context), request),
    listTasks: (request, context) => tasks.list(requestContextOf(context), request),
    cancelTask: (request, context) => tasks.cancel(requestContextOf(context), request),
    subscribeToTask: (request, context) => {
      const cursor = readCursor((name) => headerOf(context, name));
      return numbered(deps, context, sender.subscribe(requestContextOf(context), request, cursor));
    },
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

/**
 * Gives each item its number: beside the body always, within it for a client that named the extension, who is told in the
 * answer's header that it is active. A stream that breaks says in its error after which number to go on.
 */
async function* numbered(
  { eventDialect }: A2AServiceDeps,
  context: HandlerContext,
  items: AsyncIterable<Numbered>,
): AsyncGenerator<StreamResponse> {
  const { extensions, workspaceId } = requestContextOf(context);
  const isNamed = extensions.includes(UPDATES_EXTENSION);
  let last: number | undefined;
  try {
    for await (const { response, sequence, capabilityId } of items) {
      if (last === undefined) {
        const dialect = await eventDialect(workspaceId, capabilityId);
        if (dialect) context.values.set(eventDialectKey, dialect);
      }
      // Headers leave with the first item.
      if (isNamed && last === undefined) context.responseHeader.set("a2a-extensions", UPDATES_EXTENSION);
      last = sequence;
      yield setSequence(isNamed ? withSequence(response, sequence) : response, sequence);
    }
  } catch (error) {
    if (last === undefined || !(error instanceof SignalboxError)) throw error;
    throw withMetadata(error, { sequence: String(last) });
  }
}
