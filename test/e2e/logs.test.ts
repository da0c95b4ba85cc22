import { toJson } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { cardOf, freePort } from "../agents/rogue-agent.ts";
import { logLines } from "../store/log-lines.ts";
import { startTestApp } from "./running-app.ts";

it("tells of a task with the ids of its request, its trace and itself", async () => {
  const logged = logLines();
  const app = await startTestApp({ log: logged.log, flags: { "task.attempts": "1" } });
  try {
    const nobody = cardOf("JSONRPC", `http://127.0.0.1:${await freePort()}`);
    await app.register("dead", { card: toJson(AgentCardSchema, nobody) });
    const response = await fetch(`${app.httpUrl}/message:send`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-request-id": "request-7",
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      },
      body: JSON.stringify({ message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "x" }] } }),
    });
    const { task } = (await response.json()) as { task: { id: string } };
    const line = logged.lines.find(({ msg }) => msg === "the agent failed the task");
    expect(line).toMatchObject({
      requestId: "request-7",
      traceId: "0af7651916cd43dd8448eb211c80319c",
      taskId: task.id,
      agentId: "dead",
      workspaceId: "default",
    });
  } finally {
    await app.stop();
  }
});
