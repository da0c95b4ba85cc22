/** What a tenant may name. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { isDnsLabel } from "../../src/domain/identifiers.ts";
import { agentTenant, capabilityTenant, nobodyOffers, noSuchAgent, parseTarget } from "../../src/domain/target.ts";

const label = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);

test("an agent or a capability is read as it is written", () => {
  fc.assert(
    fc.property(label, (id) => {
      expect(parseTarget(agentTenant(id))).toEqual({ kind: "agent", agentId: id });
      expect(parseTarget(capabilityTenant(id))).toEqual({ kind: "capability", capabilityId: id });
    }),
  );
});

test("nothing is no target, and is told by undefined", () => {
  expect(parseTarget("")).toBeUndefined();
});

test.each(["a", "c", "a.", "c.", "b.x", "x", "A.x", "C.x", "c.X", "c.x.y", "c.-x", "c.x-", " c.x", "c.x\n", "c.ü"])(
  "%j is no target, and its refusal names both forms",
  (tenant) => {
    expect(() => parseTarget(tenant)).toThrow(
      expect.objectContaining({
        code: "NOT_FOUND",
        reason: "TARGET_NOT_FOUND",
        message: expect.stringMatching(/a\.<agent>.*c\.<capability>/),
        metadata: { target: tenant },
      }),
    );
  },
);

test("anything else is no target", () => {
  const other = fc.string({ unit: "binary" }).filter((text) => text !== "");
  fc.assert(
    fc.property(other, (tenant) => {
      if (/^[ac]\./.test(tenant) && isDnsLabel(tenant.slice(2))) return;
      expect(() => parseTarget(tenant)).toThrow(expect.objectContaining({ reason: "TARGET_NOT_FOUND" }));
    }),
  );
});

test("what nobody has is refused by its name, with the nearest there is", () => {
  const reason = "TARGET_NOT_FOUND";
  expect(nobodyOffers("wrte", ["read", "write"])).toMatchObject({
    reason,
    metadata: { target: "c.wrte" },
    message: 'No agent offers capability "wrte". Did you mean write?',
  });
  expect(noSuchAgent("wirter", ["reader", "writer"])).toMatchObject({
    reason,
    metadata: { target: "a.wirter" },
    message: 'There is no agent "wirter". Did you mean writer?',
  });
  expect(nobodyOffers("x", ["translate"]).message).toContain("signalbox capabilities list");
});
