/**
 * A client made with @a2a-js/sdk, which knows A2A and nothing of Signalbox: to it the router is an agent.
 *
 *     npx node examples/typescript/client.ts [URL] [TEXT]
 *
 * URL is the router (default http://127.0.0.1:8080), or one agent behind it: http://127.0.0.1:8080/agents/writer.
 */
import { randomUUID } from "node:crypto";
import { type Part, SendMessageRequest, TaskState } from "@a2a-js/sdk";
import { ClientFactory } from "@a2a-js/sdk/client";

const [url = "http://127.0.0.1:8080", text = "Hello from TypeScript."] = process.argv.slice(2);

// Paths of A2A stand below the URL, so it has to end with a slash.
const client = await new ClientFactory().createFromUrl(url.endsWith("/") ? url : `${url}/`);
const request = SendMessageRequest.fromJSON({
  message: { messageId: randomUUID(), role: "ROLE_USER", parts: [{ text }] },
});
let taskId = "";

for await (const { payload } of client.sendMessageStream(request)) {
  switch (payload?.$case) {
    case "task":
      taskId = payload.value.id;
      console.log("task", nameOf(payload.value.status?.state));
      break;
    case "statusUpdate":
      console.log("status", nameOf(payload.value.status?.state), textOf(payload.value.status?.message?.parts));
      break;
    case "artifactUpdate":
      console.log("artifact", payload.value.artifact?.name, textOf(payload.value.artifact?.parts));
      break;
    case "message":
      console.log("message", textOf(payload.value.parts));
  }
}

// The router has stored it: any client may come for it later.
if (taskId !== "") {
  const task = await client.getTask({ tenant: "", id: taskId });
  for (const { name, parts } of task.artifacts) console.log("stored", name, textOf(parts));
}

function nameOf(state: TaskState = TaskState.TASK_STATE_UNSPECIFIED): string {
  return TaskState[state];
}

function textOf(parts: readonly Part[] = []): string {
  return parts.map(({ content }) => (content?.$case === "text" ? content.value : "")).join("");
}
