/** An agent that sends a task on behalf of one that it has must be trusted with what it asks for. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { RouteDecisionSchema } from "../../gen/signalbox/v1/routing_pb.ts";
import { DEFAULT_TRUST_RULE } from "../../src/domain/reputation/trust-rule.ts";
import { userMessage } from "../../src/sdk/client.ts";
import { type AcceptDeps, createAccept } from "../../src/services/accept.ts";
import { createReputation } from "../../src/services/reputation.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { openPolicy } from "../fixtures/open-policy.ts";

const runtime = systemRuntime();
const context = { workspaceId: "default" } as RequestContext;
const request = create(SendMessageRequestSchema, { message: userMessage("help") });

/** Why the message is refused, where an agent of that trust sends it for a capability of that access. */
async function refusalOf(trust: number, access: "READ" | "WRITE" | undefined, enforces = true): Promise<string> {
  const standing = { trust, weight: 0, goodWeight: 0, atMs: Date.now() };
  const reputation = createReputation({
    repository: { load: async () => ({ rows: [{ agentId: "boss", capabilityId: "", standing }], cursor: "1" }) },
    runtime,
    rules: { load: () => undefined, of: () => DEFAULT_TRUST_RULE },
    enforces,
  });
  const capability = { capabilityId: "c", access: access ?? "WRITE", isAccessDeclared: access !== undefined };
  const deps = {
    runtime,
    trust: reputation,
    idempotency: { keyOf: () => undefined },
    cache: { lookup: async () => undefined },
    delegations: { parentOf: async () => ({ taskId: "t", agentId: "boss", depth: 1 }) },
    router: {
      route: async () => ({
        agent: { agentId: "worker" },
        capability,
        wishes: {},
        decision: create(RouteDecisionSchema),
      }),
    },
    policy: openPolicy,
    budgets: {
      reserve() {
        throw new Error("let through");
      },
    },
  } as unknown as AcceptDeps;
  const error = await createAccept(deps)(context, request).catch((failure: unknown) => failure);
  return (error as Error).message;
}

test("or the task is refused before anything is stored", async () => {
  const refused = await refusalOf(0.79, "WRITE");
  expect(refused).toMatch(
    /^Agent "boss", on whose behalf the task is sent, is not trusted enough: its trust is 0\.79, and WRITE needs 0\.8\./,
  );
  expect(await refusalOf(0.8, "WRITE")).toBe("let through");
  expect(await refusalOf(0.29, "READ")).toMatch(/READ needs 0\.3\. Left alone, it is trusted again in \d+ min\./);
  expect(await refusalOf(0.3, "READ")).toBe("let through");
  expect(await refusalOf(0.5, undefined)).toBe("let through");
  expect(await refusalOf(0, undefined)).toMatch(/READ needs 0\.3/);
  expect(await refusalOf(0, "WRITE", false)).toBe("let through");
});
