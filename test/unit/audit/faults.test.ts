/** What is known to be wrong with audit logs. */
import { expect, test } from "vitest";
import { entryFault } from "../../../src/domain/audit/fault.ts";
import { createAuditFaults } from "../../../src/services/audit/faults.ts";
import { silent } from "../../store/backends.ts";

const faultAt = (index: number) => entryFault("EDITED", index, "r1/x", index + 1, "was edited.");

test("faults are remembered up to a hundred of a log, and forgotten where they are not found again", () => {
  const faults = createAuditFaults(silent);
  const first = faults.reading("default");
  for (let i = 0; i < 1_000; i++) first.report(faultAt(i));
  first.end();
  expect(faults.count).toBe(100);
  const second = faults.reading("default");
  for (let i = 50; i < 60; i++) second.report(faultAt(i));
  second.end();
  expect(faults.count).toBe(10);
  faults.reading("default").end();
  expect(faults.workspaces()).toEqual([]);
});
