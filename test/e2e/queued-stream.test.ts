/** A stream of a task that waits in the queue: what the engine does with it meanwhile is nothing that clients see. */
import { create } from "@bufbuild/protobuf";
import { expect, onTestFinished, test } from "vitest";
import { MessageSchema, Role, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { createPuppet } from "../fault/puppet.ts";
import { lineOf } from "../fault/said.ts";
import { logLines } from "../store/log-lines.ts";
import { startTestApp } from "./running-app.ts";

test("shows nothing while the task is only claimed, and so a bare Message as it is", async () => {
  const puppet = createPuppet();
  const logged = logLines();
  const app = await startTestApp({
    log: logged.log,
    flags: { "limits.running-tasks": "1", "task.silence-ms": "20000" },
    agents: { puppet: puppet.handler },
  });
  onTestFinished(() => app.stop());
  const client = createSignalboxClient({ baseUrl: app.httpUrl });
  await client.send("takes the only place", { wait: false });
  const first = await puppet.turn();
  first.task();
  const queued = client.stream("waits")[Symbol.asyncIterator]();
  const shown = queued.next();
  while (!logged.lines.some(({ waits }) => waits === true)) await logged.next();

  first.status(TaskState.COMPLETED);
  first.end();
  const second = await puppet.turn();
  const parts = [{ content: { case: "text" as const, value: "Hello." } }];
  second.say({ case: "message", value: create(MessageSchema, { messageId: "m", role: Role.AGENT, parts }) });
  second.end();
  expect(lineOf((await shown).value)).toBe("message Hello.");
});
