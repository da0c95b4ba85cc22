/** One push notification as it goes to its webhook (A2A specification, section 4.3.3). */
import { fromBinary, toJson } from "@bufbuild/protobuf";
import { StreamResponseSchema, type TaskPushNotificationConfig } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { withMilliseconds } from "../../domain/json-times.ts";
import type { WebhookSender } from "../agent-port.ts";

/** An update as it is stored: its number in its task's log, and an encoded StreamResponse. */
export interface NumberedUpdate {
  readonly seq: number;
  readonly body: Uint8Array;
}

/**
 * Posts an update, with its number as `Signalbox-Sequence`: one that comes once more has the number that it had. Rejects when
 * the webhook does not take it within `timeoutMs`.
 */
export async function postUpdate(
  webhooks: WebhookSender,
  config: TaskPushNotificationConfig,
  { seq, body }: NumberedUpdate,
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  const json = toJson(StreamResponseSchema, fromBinary(StreamResponseSchema, body));
  const text = JSON.stringify(withMilliseconds(StreamResponseSchema, json));
  await webhooks.post(config.url, text, { ...headersOf(config), "signalbox-sequence": String(seq) }, options);
}

function headersOf({ authentication, token }: TaskPushNotificationConfig): Record<string, string> {
  return {
    ...(authentication && { authorization: `${authentication.scheme} ${authentication.credentials}`.trim() }),
    ...(token !== "" && { "x-a2a-notification-token": token }),
  };
}
