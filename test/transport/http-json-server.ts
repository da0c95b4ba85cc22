/** An HTTP+JSON server for tests, and what is said to it and expected of it. */
import { toJson } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { errorBody, httpStatus, routeNotFound } from "../../src/transport/http-errors.ts";
import { sendText } from "../../src/transport/http-exchange.ts";
import { createHttpJsonHandler } from "../../src/transport/http-json/handler.ts";
import { type Protocol, type Reply, serve } from "./http-fixture.ts";
import { MemoryService } from "./memory-service.ts";

export const MAX_BYTES = 64 * 1024;
export const JSON_HEADERS = { "content-type": "application/json" };

export const message = (text: string) => ({ message: { messageId: "m1", role: "ROLE_USER", parts: [{ text }] } });

export type HttpJsonServer = Awaited<ReturnType<typeof serveHttpJson>>;

export async function serveHttpJson(protocol: Protocol) {
  const service = new MemoryService();
  const errors: unknown[] = [];
  const answered: Promise<void>[] = [];
  const handle = createHttpJsonHandler({
    rpcs: service.rpcs(),
    maxBytes: MAX_BYTES,
    bodyTimeoutMs: 100,
    keepAliveMs: 20,
    onError: (error) => errors.push(error),
  });
  const server = await serve(protocol, (req, res) => {
    const done = handle(req, res, req.url ?? "", req.headers["x-test-target"] as string | undefined);
    if (done !== undefined) answered.push(done);
    else {
      const error = routeNotFound(req.method ?? "", req.url ?? "");
      sendText(res, httpStatus(error), "application/json", JSON.stringify(errorBody(error)));
    }
  });
  return {
    ...server,
    service,
    /** What was reported as unexpected. */
    errors,
    /** One promise a routed request; ends with the answer. */
    answered,
    get: (path: string, headers: Record<string, string> = {}) => server.send({ path, headers }),
    post(path: string, body: unknown, headers: Record<string, string> = {}) {
      const text = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
      return server.send({ method: "POST", path, body: text, headers: { ...JSON_HEADERS, ...headers } });
    },
    /** What the service was asked last. */
    lastRequest: () => toJson(service.last.context.method.input, service.last.request),
  };
}

export function expectError(reply: Reply, status: number, code: string, reason: string): void {
  expect(reply.json?.error, reply.text).toMatchObject({ code: status, status: code });
  expect(reply.status).toBe(status);
  expect(reply.json.error.details[0]).toMatchObject({ "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason });
}

export function expectViolation(reply: Reply, field: string): void {
  expectError(reply, 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT");
  const { "@type": type, fieldViolations } = reply.json.error.details[1];
  expect(type).toBe("type.googleapis.com/google.rpc.BadRequest");
  // ProtoJSON leaves the empty path of the whole body out.
  expect(fieldViolations[0].field ?? "").toBe(field);
  expect(fieldViolations[0].description).not.toBe("");
}
