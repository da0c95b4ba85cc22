import { create, fromJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import {
  AgentCardSchema,
  ListTasksResponseSchema,
  type Message,
  MessageSchema,
  PartSchema,
  Role,
  SendMessageRequestSchema,
  StreamResponseSchema,
  TaskSchema,
  TaskState,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { missingFields } from "../../src/domain/required-fields.ts";

const text = (value: string) => ({ content: { case: "text" as const, value } });
const message = (init: object = {}): Message =>
  create(MessageSchema, { messageId: "m", role: Role.USER, parts: [text("hello")], ...init });
const fields = (found: { field: string }[]) => found.map((violation) => violation.field);

describe("missingFields", () => {
  test("finds nothing in a whole request", () => {
    expect(missingFields(SendMessageRequestSchema, create(SendMessageRequestSchema, { message: message() }))).toEqual(
      [],
    );
  });

  test("names each missing field with its path and what would be right", () => {
    const request = create(SendMessageRequestSchema, {
      message: { parts: [text("a"), { filename: "b" }] },
      configuration: { taskPushNotificationConfig: { authentication: {} } },
    });
    expect(missingFields(SendMessageRequestSchema, request)).toEqual([
      { field: "message.messageId", description: "is required" },
      { field: "message.role", description: "is required: one of ROLE_USER, ROLE_AGENT" },
      { field: "message.parts[1]", description: "needs one of text, raw, url, data" },
      { field: "configuration.taskPushNotificationConfig.url", description: "is required" },
      { field: "configuration.taskPushNotificationConfig.authentication.scheme", description: "is required" },
    ]);
    expect(fields(missingFields(SendMessageRequestSchema, create(SendMessageRequestSchema)))).toEqual(["message"]);
    expect(fields(missingFields(MessageSchema, message({ parts: [] })))).toEqual(["parts"]);
  });

  test("an empty text is content", () => {
    expect(missingFields(MessageSchema, message({ parts: [text("")] }))).toEqual([]);
  });

  test("looks through oneofs, lists and nested messages", () => {
    const task = create(TaskSchema, {
      id: "t",
      status: { state: TaskState.WORKING, message: message({ messageId: "" }) },
      artifacts: [{ artifactId: "a", parts: [text("x")] }, { parts: [{}] }],
      history: [message()],
    });
    const response = create(StreamResponseSchema, { payload: { case: "task", value: task } });
    expect(fields(missingFields(StreamResponseSchema, response))).toEqual([
      "task.status.message.messageId",
      "task.artifacts[1].artifactId",
      "task.artifacts[1].parts[0]",
    ]);
    expect(missingFields(StreamResponseSchema, create(StreamResponseSchema))).toEqual([
      { field: "", description: "needs one of task, message, statusUpdate, artifactUpdate" },
    ]);
  });

  test("looks into maps, and lets lists be empty where a card may have nothing to list", () => {
    const card = create(AgentCardSchema, {
      name: "n",
      description: "d",
      version: "1",
      capabilities: {},
      supportedInterfaces: [{ url: "http://x", protocolBinding: "JSONRPC", protocolVersion: "1.0" }],
      securitySchemes: { 'a"b': { scheme: { case: "openIdConnectSecurityScheme", value: {} } } },
    });
    expect(fields(missingFields(AgentCardSchema, card))).toEqual([
      'securitySchemes["a\\"b"].openIdConnectSecurityScheme.openIdConnectUrl',
    ]);
  });

  test("numbers have no empty value", () => {
    expect(fields(missingFields(ListTasksResponseSchema, create(ListTasksResponseSchema)))).not.toContain("pageSize");
  });

  test("a flood of faults makes a short list", () => {
    const flood = message({ parts: Array.from({ length: 100_000 }, () => ({})) });
    expect(missingFields(MessageSchema, flood)).toHaveLength(16);
  });

  test("refuses numbers that JSON does not have, wherever free-form data stands", () => {
    const data = (value: number) =>
      create(PartSchema, { content: { case: "data", value: fromJson(ValueSchema, { a: [value] }) } });
    expect(fields(missingFields(MessageSchema, message({ parts: [data(1)], metadata: { a: { b: [1.5] } } })))).toEqual(
      [],
    );
    const broken = data(0);
    if (broken.content.case === "data" && broken.content.value.kind.case === "structValue") {
      broken.content.value.kind.value.fields.a = create(ValueSchema, {
        kind: { case: "numberValue", value: Number.NaN },
      });
    }
    const faulty = message({ parts: [broken], metadata: { a: { b: [Number.POSITIVE_INFINITY] } } });
    expect(fields(missingFields(MessageSchema, faulty))).toEqual(["parts[0].data", "metadata"]);
  });
});
