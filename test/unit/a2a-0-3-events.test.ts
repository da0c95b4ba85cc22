/** Old keys, read by the translator that @a2a-js/sdk has for agents of A2A 0.3. */

import { StreamResponse as SdkStreamResponse } from "@a2a-js/sdk";
import { legacyPushNotificationToV1StreamResponse } from "@a2a-js/sdk/compat/v0_3";
import { fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { withOldKeys } from "../../src/domain/a2a-0-3-events.ts";

const STANDARD = ["task", "message", "statusUpdate", "artifactUpdate"];

/** What a reader of 0.3 sees, who knows nothing of the other keys. */
const oldKeysOf = (json: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(json).filter(([key]) => !STANDARD.includes(key)));

/** Through ProtoJSON, so that what both sides say by leaving something out is the same. */
const same = (json: unknown) => toJson(StreamResponseSchema, fromJson(StreamResponseSchema, json as JsonObject));

const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
const words = fc.array(word, { minLength: 1, maxLength: 2 });
const object = fc.dictionary(word, fc.oneof(word, fc.integer(), fc.boolean(), fc.constant(null)), {
  minKeys: 1,
  maxKeys: 3,
});
const optional = <T>(key: string, value: fc.Arbitrary<T>) =>
  fc.option(
    value.map((v) => ({ [key]: v })),
    { nil: {} },
  );
const all = (...parts: fc.Arbitrary<object>[]): fc.Arbitrary<JsonObject> =>
  fc.tuple(...parts).map((found) => Object.assign({}, ...found) as JsonObject);
const always = <T>(key: string, value: fc.Arbitrary<T>) => value.map((v) => ({ [key]: v }));

const file = all(optional("filename", word), optional("mediaType", fc.constant("image/png")));
const part = fc.oneof(
  all(always("text", fc.string({ minLength: 1 })), optional("metadata", object)),
  all(always("raw", fc.base64String({ minLength: 4, maxLength: 8 })), file, optional("metadata", object)),
  all(always("url", fc.webUrl()), file),
  all(always("data", fc.oneof(object, word, fc.integer(), fc.boolean(), fc.array(word))), optional("metadata", object)),
);
const parts = fc.array(part, { minLength: 1, maxLength: 3 });
const ids = all(always("taskId", word), always("contextId", word));
const message = all(
  always("messageId", word),
  always("role", fc.constantFrom("ROLE_USER", "ROLE_AGENT")),
  always("parts", parts),
  optional("taskId", word),
  optional("contextId", word),
  optional("metadata", object),
  optional("extensions", words),
  optional("referenceTaskIds", words),
);
const state = fc.constantFrom(
  ...["SUBMITTED", "WORKING", "COMPLETED", "FAILED", "CANCELED", "INPUT_REQUIRED", "REJECTED", "AUTH_REQUIRED"].map(
    (name) => `TASK_STATE_${name}`,
  ),
);
const status = all(
  always("state", state),
  optional("message", message),
  optional("timestamp", fc.constant("2026-01-02T03:04:05.006Z")),
);
const artifact = all(
  always("artifactId", word),
  always("parts", parts),
  optional("name", word),
  optional("description", word),
  optional("metadata", object),
  optional("extensions", words),
);
const item = fc.oneof(
  always("message", message),
  always("statusUpdate", all(ids, always("status", status), optional("metadata", object))),
  always(
    "artifactUpdate",
    all(
      ids,
      always("artifact", artifact),
      optional("append", fc.constant(true)),
      optional("lastChunk", fc.constant(true)),
      optional("metadata", object),
    ),
  ),
  always(
    "task",
    all(
      always("id", word),
      always("contextId", word),
      always("status", status),
      optional("artifacts", fc.array(artifact, { minLength: 1, maxLength: 2 })),
      optional("history", fc.array(message, { minLength: 1, maxLength: 2 })),
      optional("metadata", object),
    ),
  ),
) as fc.Arbitrary<JsonObject>;

describe("old keys", () => {
  test("say what the standard ones say", () => {
    fc.assert(
      fc.property(item, (standard) => {
        const read = legacyPushNotificationToV1StreamResponse(oldKeysOf(withOldKeys(standard) as JsonObject));
        expect(same(SdkStreamResponse.toJSON(read))).toEqual(same(standard));
      }),
      { numRuns: 500 },
    );
  });

  test("leave the standard ones as they are, to the byte, at the beginning", () => {
    fc.assert(
      fc.property(item, (standard) => {
        const before = JSON.stringify(standard);
        const after = JSON.stringify(withOldKeys(standard));
        expect(after.startsWith(`${before.slice(0, -1)},"`)).toBe(true);
        expect(JSON.stringify(standard)).toBe(before);
      }),
    );
  });

  test.each([
    ["WORKING", "working", false],
    ["AUTH_REQUIRED", "auth-required", false],
    ["INPUT_REQUIRED", "input-required", true],
    ["COMPLETED", "completed", true],
    ["REJECTED", "rejected", true],
  ])("%s is %s, final: %s", (name, state, final) => {
    const statusUpdate = { taskId: "t", contextId: "c", status: { state: `TASK_STATE_${name}` } };
    expect(oldKeysOf(withOldKeys({ statusUpdate }) as JsonObject)).toEqual({
      kind: "status-update",
      taskId: "t",
      contextId: "c",
      status: { state },
      final,
    });
  });

  test("of an artifact say append and lastChunk also when they are false", () => {
    const artifactUpdate = { taskId: "t", contextId: "c", artifact: { artifactId: "a", parts: [{ text: "x" }] } };
    expect(oldKeysOf(withOldKeys({ artifactUpdate }) as JsonObject)).toEqual({
      kind: "artifact-update",
      taskId: "t",
      contextId: "c",
      artifact: { artifactId: "a", parts: [{ kind: "text", text: "x" }] },
      append: false,
      lastChunk: false,
    });
  });
});
