/** Posts push notifications (A2A specification, sections 4.3.3 and 13.2). */
import { request } from "undici";
import { invalidArgument, SignalboxError } from "../domain/errors.ts";
import type { WebhookSender } from "../services/agent-port.ts";
import { isSuccess } from "./http-call.ts";
import { ConnectFailure, createHttpConnections } from "./http-connections.ts";
import { AddressRefused, createUrlGuard, type UrlGuardOptions } from "./url-guard.ts";

/** Nobody reads what a webhook answers; so much of it is taken to keep the connection for the next notification. */
const MAX_ANSWER_BYTES = 64 * 1024;

/**
 * The sender of the port. Redirects are not followed. Throws INVALID_ARGUMENT for an address that is not allowed,
 * UNAVAILABLE with reason WEBHOOK_FAILED otherwise. `close` ends what runs and drops the connections.
 */
export function createWebhookSender(options: UrlGuardOptions): WebhookSender & { close(): Promise<void> } {
  const guard = createUrlGuard(options);
  const http = createHttpConnections(guard);

  return {
    async check(url) {
      const { hostname } = guard.checkUrl(url, "url");
      try {
        await guard.resolve(hostname.replace(/^\[|\]$/g, ""));
      } catch (error) {
        // A name that cannot be resolved now may well be when there is something to post.
        if (error instanceof AddressRefused) throw refused(error);
      }
    },

    async post(url, body, headers, { signal, timeoutMs }) {
      const target = guard.checkUrl(url, "url");
      const timeout = AbortSignal.timeout(timeoutMs);
      try {
        const answer = await request(target, {
          dispatcher: http,
          method: "POST",
          headers: { ...headers, "content-type": "application/a2a+json" },
          body,
          signal: AbortSignal.any([signal, timeout]),
        });
        answer.body.on("error", () => {});
        if (!isSuccess(answer.statusCode)) {
          answer.body.destroy();
          throw failed(`The webhook answered HTTP ${answer.statusCode}.`);
        }
        await answer.body.dump({ limit: MAX_ANSWER_BYTES, signal: timeout });
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (error instanceof SignalboxError) throw error;
        if (timeout.aborted) throw failed(`The webhook did not answer within ${timeoutMs} ms.`, error);
        const cause = error instanceof ConnectFailure ? error.cause : error;
        if (cause instanceof AddressRefused) throw refused(cause);
        throw failed("The webhook could not be reached.", error);
      }
    },
    close: () => http.destroy(),
  };
}

const refused = (error: AddressRefused) => invalidArgument([{ field: "url", description: error.message }], error);

function failed(message: string, cause?: unknown): SignalboxError {
  return new SignalboxError({ code: "UNAVAILABLE", reason: "WEBHOOK_FAILED", message, cause });
}
