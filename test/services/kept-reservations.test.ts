/** What a task was reserved is kept from the moment that it is stored, whatever comes after. */
import { expect, it } from "vitest";
import type { BeginOptions } from "../../src/services/new-tasks.ts";
import { openLab, workingAgent } from "./engine-lab.ts";

const terms = { rule: { name: "r", description: "" }, approvers: [], self: true, expiresMs: 60_000 };
const approval = { terms, principalId: "tester", policyVersion: 1 } as unknown as NonNullable<BeginOptions["approval"]>;

it.each<[string, BeginOptions]>([
  ["begins", {}],
  ["waits for its approval", { approval }],
])("of one that %s", async (_, options) => {
  const lab = await openLab();
  const replica = await lab(workingAgent());
  const told: string[] = [];
  await replica.begin("default", {
    ...options,
    reserved: { drawn: new Set(), keep: () => void told.push("kept"), doubt: () => void told.push("doubted") },
    beforeStart: async () => void told.push("stored"),
  });
  expect(told).toEqual(["kept", "stored"]);
});
