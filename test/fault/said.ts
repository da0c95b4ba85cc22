/** What clients were told, in few words. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.ts";
import { type Message, type StreamResponse, type Task, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { stateName } from "../../src/domain/task-state.ts";

/** The text of a message, or of all artifacts of a task. */
export function textOf(said: Message | Task | undefined): string {
  const parts = said?.$typeName === "lf.a2a.v1.Task" ? said.artifacts.flatMap((a) => a.parts) : (said?.parts ?? []);
  return parts.map(({ content }) => (content.case === "text" ? content.value : "")).join("");
}

/** `WORKING`, and what the status says after a colon. */
export function statusOf({ status }: Pick<Task, "status">): string {
  const text = textOf(status?.message);
  return stateName(status?.state ?? TaskState.UNSPECIFIED) + (text === "" ? "" : `: ${text}`);
}

/** An item of a stream in one line. */
export function lineOf({ payload }: StreamResponse): string {
  switch (payload.case) {
    case "task":
      return `task ${statusOf(payload.value)}`;
    case "statusUpdate":
      return statusOf(payload.value);
    case "artifactUpdate":
      return `chunk ${payload.value.artifact?.parts.map(({ content }) => content.value).join("")}`;
    default:
      return `message ${textOf(payload.value)}`;
  }
}

/** The task with which a call was answered. */
export function asTask(answer: Task | Message): Task {
  if (answer.$typeName !== "lf.a2a.v1.Task") throw new Error("a message came where a task was expected");
  return answer;
}

/** How a call failed: code, reason, and after how many seconds a retry can help. */
export async function failureOf(call: Promise<unknown>) {
  const error = await call.then(
    (value) => {
      throw new Error(`nothing failed: ${JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : v))}`);
    },
    (thrown: unknown) => ConnectError.from(thrown),
  );
  const [info] = error.findDetails(ErrorInfoSchema);
  const [retry] = error.findDetails(RetryInfoSchema);
  return {
    code: Code[error.code],
    reason: info?.reason,
    metadata: info?.metadata,
    message: error.rawMessage,
    retries: retry?.retryDelay !== undefined,
  };
}
