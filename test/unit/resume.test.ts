/** How the wish to go on with a stream is read from headers, and what each item says of its number. */
import { clone, create, equals } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AgentCardSchema, StreamResponseSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { servedAgentCard } from "../../src/domain/card.ts";
import { DELEGATION_EXTENSION, delegationDeclaration } from "../../src/domain/delegation-extension.ts";
import { SignalboxError } from "../../src/domain/errors.ts";
import { ROUTING_EXTENSION, routingDeclaration } from "../../src/domain/routing-extension.ts";
import { UPDATES_EXTENSION, updatesDeclaration, withSequence } from "../../src/domain/updates-extension.ts";
import { readCursor, refuseResume } from "../../src/transport/rpc/resume.ts";

const sent = (headers: Record<string, string>) => (name: string) => headers[name] ?? null;

function refusalOf(call: () => unknown): SignalboxError {
  try {
    call();
  } catch (error) {
    if (error instanceof SignalboxError) return error;
    throw error;
  }
  throw new Error("nothing was refused");
}

describe("a cursor", () => {
  test("is not there when nobody sends one", () => {
    expect(readCursor(sent({ "x-request-id": "7" }))).toBeUndefined();
  });

  test("is any decimal integer from 0, in either header", () => {
    fc.assert(
      fc.property(fc.nat({ max: 999_999_999 }), fc.nat({ max: 3 }), (sequence, zeros) => {
        const value = "0".repeat(zeros) + sequence;
        expect(readCursor(sent({ "last-event-id": value }))).toEqual({ sequence, header: "Last-Event-ID" });
        const header = "signalbox-after-sequence";
        expect(readCursor(sent({ [header]: value }))).toEqual({ sequence, header });
        expect(readCursor(sent({ [header]: value, "last-event-id": String(sequence) }))).toEqual({ sequence, header });
      }),
    );
  });

  test("is nothing else, and who sends something else is told which header, and what to do", () => {
    const other = fc.oneof(
      fc.constantFrom("", "-1", "+1", "1.0", "1e3", "0x1f", "1 ", "1, 1", "NaN", "٣", "9".repeat(16), "9".repeat(400)),
      fc.string().filter((text) => !/^\d{1,15}$/.test(text)),
    );
    fc.assert(
      fc.property(other, fc.constantFrom("Last-Event-ID", "signalbox-after-sequence"), (value, field) => {
        const { code, violations, message } = refusalOf(() => readCursor(sent({ [field.toLowerCase()]: value })));
        expect({ code, fields: violations.map((violation) => violation.field) }).toEqual({
          code: "INVALID_ARGUMENT",
          fields: [field],
        });
        expect(message).toContain("leave it out");
        expect(message.length).toBeLessThan(500);
      }),
    );
  });

  test("is refused when the headers differ", () => {
    const refusal = refusalOf(() => readCursor(sent({ "last-event-id": "4", "signalbox-after-sequence": "5" })));
    expect(refusal.message).toMatch(/^signalbox-after-sequence: says 5 where Last-Event-ID says 4; send one/);
  });

  test("never lets a message be sent again, whatever it says", () => {
    expect(refuseResume(sent({}))).toBeUndefined();
    for (const value of ["5", "nonsense", ""]) {
      for (const name of ["last-event-id", "signalbox-after-sequence"]) {
        const refusal = refusalOf(() => refuseResume(sent({ [name]: value })));
        expect(refusal).toMatchObject({ code: "FAILED_PRECONDITION", reason: "RESUME_BY_SUBSCRIBING" });
        expect(refusal.message).toContain("SubscribeToTask");
      }
    }
  });
});

describe("the number in an item", () => {
  const ids = { taskId: "t", contextId: "c", metadata: { theirs: 1 } };
  const items = [
    { case: "task", value: { id: "t", metadata: { theirs: 1 } } },
    { case: "statusUpdate", value: ids },
    { case: "artifactUpdate", value: { ...ids, artifact: { artifactId: "a" } } },
  ] as const;

  test.each(items)("stands in the metadata of a $case, beside the agent's own, and changes nothing else", (payload) => {
    const item = create(StreamResponseSchema, { payload });
    const before = clone(StreamResponseSchema, item);
    const numbered = withSequence(item, 42);
    expect(numbered.payload.value?.metadata).toEqual({ theirs: 1, [UPDATES_EXTENSION]: { sequence: "42" } });
    expect(equals(StreamResponseSchema, item, before)).toBe(true);
    delete numbered.payload.value?.metadata?.[UPDATES_EXTENSION];
    expect(equals(StreamResponseSchema, numbered, before)).toBe(true);
  });

  test("is ours where the agent says one", () => {
    const value = { ...ids, metadata: { [UPDATES_EXTENSION]: { sequence: "7" } } };
    const item = create(StreamResponseSchema, { payload: { case: "statusUpdate", value } });
    expect(withSequence(item, 1).payload.value?.metadata).toEqual({ [UPDATES_EXTENSION]: { sequence: "1" } });
  });

  test("is not put into a bare message", () => {
    const item = create(StreamResponseSchema, { payload: { case: "message", value: { messageId: "m" } } });
    expect(withSequence(item, 1)).toBe(item);
  });
});

test("a card declares our extensions once, also that of an agent which is a router itself", () => {
  const others = [
    { uri: "urn:example:tone", required: true },
    { uri: UPDATES_EXTENSION, description: "theirs", required: true },
    { uri: ROUTING_EXTENSION, description: "theirs", required: true },
    { uri: DELEGATION_EXTENSION, description: "theirs", required: true },
  ];
  const card = create(AgentCardSchema, { capabilities: { extensions: others } });
  const served = servedAgentCard({ agentId: "inner", card }, { url: "http://localhost", grpc: "localhost:1" });
  expect(served.capabilities?.extensions).toMatchObject([
    others[0],
    updatesDeclaration(),
    routingDeclaration(),
    delegationDeclaration(),
  ]);
  expect(updatesDeclaration()).toMatchObject({ uri: "urn:signalbox:a2a:updates:v1", required: false });
  expect(routingDeclaration()).toMatchObject({ uri: "urn:signalbox:a2a:routing:v1", required: false });
});
