/**
 * The extension `urn:signalbox:a2a:updates:v1`: each item of a stream says its number in the log of its task, so that a
 * client that was cut off can go on after the last one that it has. It is between a client and the router that it speaks
 * to: agents are not asked for it, because their numbers are not ours.
 */
import { create } from "@bufbuild/protobuf";
import { type AgentExtension, AgentExtensionSchema, type StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** Its URI, under which metadata hold the number: `{"sequence": "42"}`. */
export const UPDATES_EXTENSION = "urn:signalbox:a2a:updates:v1";

/** How our cards declare it (A2A specification, section 4.6.1). */
export const updatesDeclaration = (): AgentExtension =>
  create(AgentExtensionSchema, {
    uri: UPDATES_EXTENSION,
    description:
      'Each item of a stream says its number in its metadata, as {"sequence": "42"}. To go on after an item, call SubscribeToTask with signalbox-after-sequence: 42; the Task as it stood then comes first.',
    required: false,
  });

/**
 * The same item with its number in its metadata. A copy: the item itself belongs to the log and to all who watch. A bare
 * Message stays as it is, because nothing follows it.
 */
export function withSequence(item: StreamResponse, sequence: number): StreamResponse {
  const { payload } = item;
  if (payload.case === undefined || payload.case === "message") return item;
  const metadata = { ...payload.value.metadata, [UPDATES_EXTENSION]: { sequence: String(sequence) } };
  return { ...item, payload: { ...payload, value: { ...payload.value, metadata } } as StreamResponse["payload"] };
}
