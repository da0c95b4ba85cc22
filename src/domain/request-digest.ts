/** Digests by which requests are known again: SHA-256 over their canonical JSON (RFC 8785). Pure. */
import { type JsonObject, toJson } from "@bufbuild/protobuf";
import {
  MessageSchema,
  type SendMessageRequest,
  TaskPushNotificationConfigSchema,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { canonicalDigest } from "./canonical-json.ts";
import { DELEGATION_EXTENSION } from "./delegation-extension.ts";
import { EXCHANGE_EXTENSION } from "./exchange-extension.ts";
import { ROUTING_EXTENSION } from "./routing-extension.ts";
import { UPDATES_EXTENSION } from "./updates-extension.ts";

/**
 * Of a whole request: whether it is the same one, sent again. Everything that says what is to be done counts; how the answer
 * is to come (`historyLength`, `returnImmediately`, stream or not) does not, nor does where its key was said, or
 * in which exchange: that may be a new one each time.
 *
 * @param target What the address or the tenant names.
 * @throws RangeError, or Error of protobuf-es, for a request that JSON cannot hold.
 */
export function requestDigest(target: string, { message, metadata, configuration }: SendMessageRequest): Uint8Array {
  const push = configuration?.taskPushNotificationConfig;
  return canonicalDigest({
    target,
    message: message ? toJson(MessageSchema, message) : null,
    metadata: without(without(metadata, ROUTING_EXTENSION, ["idempotencyKey"]), EXCHANGE_EXTENSION, ["correlationId"]),
    acceptedOutputModes: configuration?.acceptedOutputModes ?? [],
    push: push ? toJson(TaskPushNotificationConfigSchema, push) : null,
  });
}

/** Whose result may be given to whom. */
export interface ResultScope {
  readonly workspaceId: string;
  readonly capabilityId: string;
  /** Another one when an agent that offers the capability has changed, or what it offers, or who offers it. */
  readonly generation: string;
  /** Undefined where results are for everybody in the workspace. */
  readonly principalId: string | undefined;
}

/** What of the routing extension says how a task is carried, not what is to be done or by whom. */
const CARRIAGE = ["capability", "strategy", "priority", "deadlineMs", "idempotencyKey", "noStore"];

/**
 * Of what an agent would be given: whether it would do the same work. The ids of the message are not part of it.
 *
 * @param extensions URIs that the client named.
 * @throws RangeError, or Error of protobuf-es, for a request that JSON cannot hold.
 */
export function resultKey(
  { workspaceId, capabilityId, generation, principalId }: ResultScope,
  { message, metadata, configuration }: SendMessageRequest,
  extensions: readonly string[],
): Uint8Array {
  const {
    messageId: _,
    taskId: __,
    contextId: ___,
    ...input
  } = message ? (toJson(MessageSchema, message) as JsonObject) : {};
  return canonicalDigest({
    workspaceId,
    capabilityId,
    generation,
    principalId: principalId ?? null,
    input,
    // On whose behalf it is done makes no other result.
    metadata: without(without(metadata, ROUTING_EXTENSION, CARRIAGE), DELEGATION_EXTENSION, ["parentTaskId"]),
    acceptedOutputModes: configuration?.acceptedOutputModes ?? [],
    extensions: [...new Set(extensions)].filter((uri) => uri !== UPDATES_EXTENSION).sort(),
  });
}

/** Metadata without some keys of an extension; without the extension when it says nothing else. */
function without(metadata: JsonObject | undefined, extension: string, left: readonly string[]): JsonObject {
  const { [extension]: said, ...others } = metadata ?? {};
  if (typeof said !== "object" || said === null || Array.isArray(said)) return metadata ?? {};
  const kept = Object.entries(said).filter(([key]) => !left.includes(key));
  return kept.length === 0 ? others : { ...others, [extension]: Object.fromEntries(kept) };
}
