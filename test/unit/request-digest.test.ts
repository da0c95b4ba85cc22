/** What makes two requests the same, and who may be given whose result. */
import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MessageSchema, Role, type SendMessageRequest, SendMessageRequestSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EXCHANGE_EXTENSION } from "../../src/domain/exchange-extension.ts";
import { type ResultScope, requestDigest, resultKey } from "../../src/domain/request-digest.ts";
import { ROUTING_EXTENSION } from "../../src/domain/routing-extension.ts";
import { UPDATES_EXTENSION } from "../../src/domain/updates-extension.ts";

type Init = MessageInitShape<typeof SendMessageRequestSchema>;

const saying = (text: string, init: Init = {}): SendMessageRequest =>
  create(SendMessageRequestSchema, {
    message: create(MessageSchema, {
      messageId: "m1",
      role: Role.USER,
      parts: [{ content: { case: "text", value: text } }],
    }),
    ...init,
  });
const wishing = (wishes: JsonObject): Init => ({ metadata: { [ROUTING_EXTENSION]: wishes } });
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("the digest of a request", () => {
  const digest = (request: SendMessageRequest, target = "") => hex(requestDigest(target, request));

  test.each<[string, Init]>([
    ["how much history is shown", { configuration: { historyLength: 3 } }],
    ["whether it returns at once", { configuration: { returnImmediately: true } }],
    ["where its key is said", wishing({ idempotencyKey: "k" })],
    ["which exchange it belongs to", { metadata: { [EXCHANGE_EXTENSION]: { correlationId: "x" } } }],
  ])("is the same whatever %s", (_, init) => {
    expect(digest(saying("a", init))).toBe(digest(saying("a")));
  });

  test.each<[string, SendMessageRequest, string?]>([
    ["another text", saying("b")],
    ["another messageId", saying("a", { message: { ...saying("a").message!, messageId: "m2" } })],
    ["another target", saying("a"), "a.agent"],
    ["a priority", saying("a", wishing({ priority: "HIGH" }))],
    ["metadata", saying("a", { metadata: { x: 1 } })],
    ["what else is said to an exchange", saying("a", { metadata: { [EXCHANGE_EXTENSION]: { discover: {} } } })],
    ["output modes", saying("a", { configuration: { acceptedOutputModes: ["text/plain"] } })],
    ["a webhook", saying("a", { configuration: { taskPushNotificationConfig: { url: "https://x.example" } } })],
  ])("differs for %s", (_, request, target) => {
    expect(digest(request, target)).not.toBe(digest(saying("a")));
  });
});

const scope: ResultScope = { workspaceId: "w", capabilityId: "c", generation: "g", principalId: "p" };
const keyOf = (of: ResultScope, request: SendMessageRequest, extensions: readonly string[] = []) =>
  hex(resultKey(of, request, extensions));

describe("the key of a result", () => {
  test("is never the same for another workspace, capability, generation, principal or input", () => {
    const word = fc.constantFrom("", "a", "b", 'a","b', "null");
    const asked = fc.record({
      workspaceId: word,
      capabilityId: word,
      generation: word,
      principalId: fc.option(word, { nil: undefined }),
      text: word,
      mode: fc.option(word, { nil: undefined }),
      extension: fc.option(word, { nil: undefined }),
      tone: fc.option(word, { nil: undefined }),
    });
    type Asked = typeof asked extends fc.Arbitrary<infer T> ? T : never;
    const key = ({ text, mode, extension, tone, ...of }: Asked) =>
      keyOf(
        of,
        saying(text, {
          configuration: { acceptedOutputModes: mode === undefined ? [] : [mode] },
          ...(tone !== undefined && { metadata: { tone } }),
        }),
        extension === undefined ? [] : [extension],
      );
    fc.assert(
      fc.property(asked, asked, (one, other) => {
        const isSame = JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());
        expect(key(one) === key(other)).toBe(isSame);
      }),
      { numRuns: 1000 },
    );
  });

  test("is the same for whatever says how a task is carried", () => {
    const plain = keyOf(scope, saying("a"));
    const carried = {
      capability: "c",
      strategy: "X",
      priority: "HIGH",
      deadlineMs: 1,
      idempotencyKey: "k",
      noStore: false,
    };
    expect(keyOf(scope, saying("a", wishing(carried)))).toBe(plain);
    expect(keyOf(scope, saying("a", { configuration: { historyLength: 0, returnImmediately: true } }))).toBe(plain);
    const ids = { ...saying("a").message!, messageId: "m2", contextId: "x" };
    expect(keyOf(scope, saying("a", { message: ids }))).toBe(plain);
    expect(keyOf(scope, saying("a"), [UPDATES_EXTENSION])).toBe(plain);
    expect(keyOf(scope, saying("a"), ["y", "x"])).toBe(keyOf(scope, saying("a"), ["x", "y"]));
  });

  test.each([{ agent: "a" }, { labels: { region: "eu" } }, { maxCost: 1 }, { routeMode: "LOCAL" }])(
    "is another one for what says by whom it is done: %j",
    (wishes) => {
      expect(keyOf(scope, saying("a", wishing(wishes)))).not.toBe(keyOf(scope, saying("a")));
    },
  );

  test("a message that JSON cannot hold has none", () => {
    const message = create(SendMessageRequestSchema, {
      message: {
        messageId: "m",
        parts: [{ content: { case: "data", value: { kind: { case: "numberValue", value: Number.NaN } } } }],
      },
    });
    expect(() => resultKey(scope, message, [])).toThrow();
    expect(() => requestDigest("", message)).toThrow();
  });
});
