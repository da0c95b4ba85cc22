/** Entries of what clients have sent, whatever it was. */
import { expect, test } from "vitest";
import { auditBody } from "../../../src/domain/audit/entry.ts";

test("half a surrogate pair in a detail does not keep an entry from being written", () => {
  const event = {
    workspaceId: "default",
    at: new Date(0),
    actor: "a",
    action: "a.b",
    targetType: "a",
    targetId: "1",
    result: "OK",
  };
  const body = auditBody({ ...event, detail: { "\ud800": ["\udc00", { b: "c\ud83d" }, 1, null], scheme: "ok" } });
  expect(JSON.parse(`{${body}`).detail).toEqual({ "\ufffd": ["\ufffd", { b: "c\ufffd" }, 1, null], scheme: "ok" });
});
