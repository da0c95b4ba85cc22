import { expect, test } from "vitest";
import { type Commit, createUpdateHub } from "../../src/services/update-hub.ts";

const commit = (taskId: string, workspaceId = "default"): Commit => ({
  workspaceId,
  taskId,
  agentId: "agent",
  updates: [],
  hasPush: false,
});

test("tells of a task those who listen to it, until they leave", () => {
  const hub = createUpdateHub();
  const heard: string[] = [];
  const leave = hub.subscribe("default", "a", {
    onCommit: ({ taskId }) => heard.push(`commit ${taskId}`),
    onHint: (seq) => heard.push(`hint ${seq}`),
  });
  hub.subscribe("default", "a", { onHint: (seq) => heard.push(`other ${seq}`) });
  hub.publish(commit("a"));
  hub.publish(commit("b"));
  hub.publish(commit("a", "another"));
  hub.hint("default", "a", 7);
  hub.hint("default", "b", 8);
  hub.hint("another", "a", 9);
  leave();
  hub.publish(commit("a"));
  hub.hint("default", "a", 10);
  expect(heard).toEqual(["commit a", "hint 7", "other 7", "other 10"]);
});

test("knows which tasks are watched", () => {
  const hub = createUpdateHub();
  const leave = ["a", "a", "b"].map((taskId) => hub.subscribe("default", taskId, {}));
  expect([...hub.watched()]).toEqual([
    { workspaceId: "default", taskId: "a" },
    { workspaceId: "default", taskId: "b" },
  ]);
  leave[0]?.();
  leave[0]?.();
  expect([...hub.watched()]).toHaveLength(2);
  leave[1]?.();
  expect([...hub.watched()]).toEqual([{ workspaceId: "default", taskId: "b" }]);
});

test("tells duties of every commit and all work, until they leave", () => {
  const hub = createUpdateHub();
  const heard: string[] = [];
  const leave = [
    hub.onCommit(({ taskId }) => heard.push(taskId)),
    hub.onWork((origin) => heard.push(`work ${origin}`)),
  ];
  hub.publish(commit("a"));
  hub.announceWork();
  hub.announceWork("elsewhere");
  for (const l of leave) l();
  hub.publish(commit("b"));
  hub.announceWork();
  expect(heard).toEqual(["a", "work here", "work elsewhere"]);
});
