/** What tasks of tests ask approval for, on what terms, and who decides. */
import { randomUUID } from "node:crypto";
import { create, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Message, MessageSchema, Role } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { Principal } from "../../src/domain/identity/principal.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { silent } from "../store/backends.ts";
import { never } from "./engine-lab.ts";

/** How long an approval waits, unless a test says otherwise, in milliseconds. */
export const MINUTE_MS = 60_000;

export const terms = (
  overrides: Partial<{ expiresMs: number; approvers: string[]; also: string[][]; self: boolean }> = {},
) => ({
  rule: {
    path: "rules[3]",
    effect: "REQUIRE",
    scope: "CAPABILITY",
    description: "Payments are looked at first",
    file: "",
    line: 9,
  } as const,
  expiresMs: MINUTE_MS,
  approvers: [],
  self: false,
  ...overrides,
});

export const asked = (overrides: Parameters<typeof terms>[0] = {}) => ({
  terms: terms(overrides),
  principalId: "client",
  policyVersion: 7,
});

export function contextOf(id: string, more: Partial<Principal> = {}): RequestContext {
  const principal = {
    id,
    workspaceId: "default",
    roles: new Set(),
    scopes: new Set(["approvals.write"]),
    authentication: "api-key",
    ...more,
  };
  return { principal: principal as Principal, workspaceId: "default", signal: never, log: silent } as RequestContext & {
    principal: Principal;
  };
}

export const boss = contextOf("boss");

export function saying(data: JsonObject): Message {
  const part = { content: { case: "data" as const, value: fromJson(ValueSchema, data) } };
  return create(MessageSchema, { messageId: randomUUID(), role: Role.USER, parts: [part] });
}
