import { describe, expect, test } from "vitest";
import { parsePathTemplate } from "../../src/transport/http-json/path-template.ts";
import { createRouteTable } from "../../src/transport/http-json/route-table.ts";
import { httpRoutes } from "../../src/transport/http-json/routes.ts";
import { MemoryService } from "./memory-service.ts";

describe("path templates", () => {
  test.each([
    ["/tasks", [{ literal: "tasks" }], ""],
    ["/message:send", [{ literal: "message" }], "send"],
    ["/{tenant}/tasks/{id=*}:cancel", [{ fieldPath: "tenant" }, { literal: "tasks" }, { fieldPath: "id" }], "cancel"],
    ["/v1/{agent.agent_id}", [{ literal: "v1" }, { fieldPath: "agent.agent_id" }], ""],
  ])("%s", (template, segments, verb) => {
    expect(parsePathTemplate(template)).toEqual({ segments, verb });
  });

  test.each(["tasks", "", "/", "/tasks/**", "/{name=agents/*}", "/{id", "/a b"])("%j is refused", (template) => {
    expect(() => parsePathTemplate(template)).toThrow(/template/);
  });
});

describe("routes", () => {
  const routes = httpRoutes(new MemoryService().rpcs().values());
  const table = createRouteTable(routes);
  const found = (method: string, path: string) => {
    const match = table.match(path);
    return match && [match.routes.get(method)?.rpc.method.name, ...match.values];
  };

  test.each([
    ["POST", "/message:send", "SendMessage"],
    ["POST", "/a.x/message:send", "SendMessage", "a.x"],
    ["GET", "/tasks", "ListTasks"],
    ["GET", "/a.x/tasks", "ListTasks", "a.x"],
    ["GET", "/tasks/t1", "GetTask", "t1"],
    ["GET", "/tasks/tasks", "GetTask", "tasks"],
    ["GET", "/tasks/urn:task:1", "GetTask", "urn:task:1"],
    ["POST", "/tasks/urn:task:1:cancel", "CancelTask", "urn:task:1"],
    ["POST", "/a.x/tasks/t1:cancel", "CancelTask", "a.x", "t1"],
    ["GET", "/tasks/t1:subscribe", "SubscribeToTask", "t1"],
    ["POST", "/tasks/t1:subscribe", "SubscribeToTask", "t1"],
    ["POST", "/a.x/tasks/t1:subscribe", "SubscribeToTask", "a.x", "t1"],
    ["GET", "/tasks/t1%3Acancel", "GetTask", "t1%3Acancel"],
    ["DELETE", "/a.x/tasks/t1/pushNotificationConfigs/p", "DeleteTaskPushNotificationConfig", "a.x", "t1", "p"],
    ["GET", "/a.x/extendedAgentCard", "GetExtendedAgentCard", "a.x"],
    ["PATCH", "/v1/agents/echo", "UpdateAgent", "echo"],
    ["POST", "/v1/agents/echo:setDefault", "SetDefaultAgent", "echo"],
    ["GET", "/tasks/t1/stream", "SubscribeToTask", "t1"],
    ["POST", "/tasks", "SubmitTask"],
    ["POST", "/tasks/t1/cancel", "CancelTask", "t1"],
    ["GET", "/v1/tasks", "ListTasks"],
    ["DELETE", "/v1/tasks/t1", "DeleteTask", "t1"],
    ["GET", "/v1/tasks:watch", "WatchTasks"],
    ["GET", "/v1/tasks/t1:wait", "WaitTask", "t1"],
    ["GET", "/v1/tasks/t1/transitions", "ListTaskTransitions", "t1"],
    ["GET", "/v1/tasks/tasks/execution", "GetTaskExecution", "tasks"],
  ])("%s %s", (method, path, ...expected) => {
    expect(found(method, path)).toEqual(expected);
  });

  test.each([
    "/",
    "",
    "/tasks/",
    "//tasks",
    "/v1/tasks:list",
    "/v1/tasks/t1/nothing",
    "/v1/tasks//execution",
    "/agents/tasks/t1/x/y/z",
    "/v1",
    "/t/message:fly",
    "/tasks/message:send/",
  ])("%j leads nowhere", (path) => {
    expect(table.match(path)).toBeUndefined();
  });

  test("a tenant cannot have the name of a literal segment", () => {
    expect(found("POST", "/tasks/message:send")).toEqual([undefined, "message:send"]);
    expect(found("GET", "/extendedAgentCard/tasks")).toBeUndefined();
  });

  test("a long path is no burden", () => {
    expect(table.match("/a".repeat(100_000))).toBeUndefined();
  });

  test("two RPCs with one route are refused", () => {
    expect(() => createRouteTable([...routes, routes[0]!])).toThrow(/same HTTP route/);
  });
});
