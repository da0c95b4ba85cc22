/** One push notification as it goes to its webhook (A2A specification, section 4.3.3). */
import { fromBinary, toJson } from "@bufbuild/protobuf";
import { StreamResponseSchema, type TaskPushNotificationConfig } from "../../../gen/lf/a2a/v1/a2a_pb.ts";
import { withMilliseconds } from "../../domain/json-times.ts";
import type { WebhookSender } from "../agent-port.ts";

/** Posts an update, an encoded StreamResponse. Rejects when the webhook does not take it within `timeoutMs`. */
export async function postUpdate(
  webhooks: WebhookSender,
  config: TaskPushNotificationConfig,
  update: Uint8Array,
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<void> {
  const json = toJson(StreamResponseSchema, fromBinary(StreamResponseSchema, update));
  const body = JSON.stringify(withMilliseconds(StreamResponseSchema, json));
  await webhooks.post(config.url, body, headersOf(config), options);
}

function headersOf({ authentication, token }: TaskPushNotificationConfig): Record<string, string> {
  return {
    ...(authentication && { authorization: `${authentication.scheme} ${authentication.credentials}`.trim() }),
    ...(token !== "" && { "x-a2a-notification-token": token }),
  };
}
