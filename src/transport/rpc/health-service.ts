/** grpc.health.v1.Health: whether this server takes calls. */

import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Health,
  type HealthCheckResponse,
  HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as Status,
} from "../../../gen/grpc/health/v1/health_pb.ts";
import { clip, SignalboxError } from "../../domain/errors.ts";
import { draining } from "../../services/dispatch-errors.ts";

/** Whether the server is ready, and who wants to know when that changes. */
export interface ServingState {
  serving: boolean;
  /** Whether it is stopping: it will not be ready again. */
  stopping: boolean;
  /** Calls `listener` after each change, until the returned function is called. */
  onChange(listener: () => void): () => void;
}

/** `services` are the full names of the services that this server has. */
export function createHealthService(state: ServingState, services: readonly string[]): ServiceImpl<typeof Health> {
  const known = (service: string) => service === "" || services.includes(service);
  const answers = new Map<Status, HealthCheckResponse>(
    [Status.SERVING, Status.NOT_SERVING, Status.SERVICE_UNKNOWN].map((status) => [
      status,
      create(HealthCheckResponseSchema, { status }),
    ]),
  );
  const current = () => (state.serving ? Status.SERVING : Status.NOT_SERVING);
  const answer = (status: Status): HealthCheckResponse => answers.get(status)!;

  return {
    check({ service }) {
      if (!known(service)) throw unknownService(service);
      return answer(current());
    },
    async *watch({ service }, { signal }) {
      let told: Status | undefined;
      for (;;) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const unsubscribe = state.onChange(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
        const status = known(service) ? current() : Status.SERVICE_UNKNOWN;
        try {
          if (status !== told) yield answer(status);
          told = status;
          // It has told all that there will be; waiting on would only hold up the stop.
          if (state.stopping) throw draining();
          signal.throwIfAborted();
          await promise;
          signal.throwIfAborted();
        } finally {
          unsubscribe();
        }
      }
    },
  };
}

const unknownService = (service: string) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "SERVICE_UNKNOWN",
    message: `This server has no service "${clip(service)}".`,
    metadata: { service: clip(service) },
  });
