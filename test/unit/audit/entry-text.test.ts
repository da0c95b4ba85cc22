/** Entries of what clients have sent, whatever it was. */
import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { auditBody } from "../../../src/domain/audit/entry.ts";

const event = {
  workspaceId: "default",
  at: new Date(0),
  actor: "a",
  action: "a.b",
  targetType: "a",
  targetId: "1",
  result: "OK",
};

test("half a surrogate pair in a detail does not keep an entry from being written", () => {
  const body = auditBody({ ...event, detail: { "\ud800": ["\udc00", { b: "c\ud83d" }, 1, null], scheme: "ok" } });
  expect(JSON.parse(`{${body}`).detail).toEqual({ "\ufffd": ["\ufffd", { b: "c\ufffd" }, 1, null], scheme: "ok" });
});

test("a detail that is too long is there as its digest", () => {
  const detail = (length: number) => ({ text: "ä".repeat(length) });
  const written = (length: number) => JSON.parse(`{${auditBody({ ...event, detail: detail(length) })}`).detail;
  // {"text":""} takes 11 bytes.
  expect(written(2_042)).toEqual(detail(2_042));
  const text = JSON.stringify(detail(2_043));
  expect(written(2_043)).toEqual({ bytes: 4_097, digest: createHash("sha256").update(text).digest("hex") });
});
