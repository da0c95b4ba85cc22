/** Tasks, messages and updates as people read them. */
import { toJson } from "@bufbuild/protobuf";
import { timestampDate, ValueSchema } from "@bufbuild/protobuf/wkt";
import {
  type Artifact,
  type Message,
  type Part,
  type StreamResponse,
  type Task,
  TaskState,
  type TaskStatus,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { cachedFrom } from "../domain/cached-result.ts";
import { stateName } from "../domain/task-state.ts";
import { facts, printable } from "./printable.ts";

/** A whole task. */
export function taskText(task: Task): string {
  const { status } = task;
  const summary = facts([
    ["Task", task.id],
    ["Context", task.contextId],
    ["State", status && stateName(status.state)],
    ["Updated", status?.timestamp && timestampDate(status.timestamp).toISOString()],
    ["Message", status?.message && partsText(status.message.parts)],
    ["Result of", cachedFrom(task.metadata)],
  ]);
  return (
    summary + task.artifacts.map((artifact) => `\n${artifactTitle(artifact)}\n${artifactText(artifact)}\n`).join("")
  );
}

/** The content of a message. */
export const messageText = (message: Message): string => `${partsText(message.parts)}\n`;

const artifactText = (artifact: Artifact): string => partsText(artifact.parts, "");

const artifactTitle = (artifact: Artifact): string => printable(`Artifact ${artifact.name || artifact.artifactId}:`);

function partsText(parts: readonly Part[], separator = "\n"): string {
  return parts.map(partText).join(separator);
}

function partText({ content, filename, mediaType }: Part): string {
  const label = [filename, mediaType].filter(Boolean).join(", ");
  switch (content.case) {
    case "text":
      return printable(content.value);
    case "url":
      return printable(`[${label ? `${label}: ` : ""}${content.value}]`);
    case "raw":
      return printable(`[${label ? `${label}, ` : ""}${content.value.length} bytes]`);
    case "data":
      return printable(JSON.stringify(toJson(ValueSchema, content.value), null, 2));
    default:
      return "";
  }
}

/** Tells what happens to a task while it happens. */
export interface UpdateTeller {
  /** The text to show for one item of a stream. */
  tell(update: StreamResponse): string;
  /** The text that ends the last line, if it is open. */
  end(): string;
}

/** Chunks of an artifact follow each other on the line; everything else begins a line of its own. */
export function createUpdateTeller(): UpdateTeller {
  let openArtifact = "";
  let lastState: TaskState | undefined;

  const end = (): string => {
    const text = openArtifact === "" ? "" : "\n";
    openArtifact = "";
    return text;
  };
  const chunk = (artifact: Artifact, append: boolean): string => {
    const goesOn = append && openArtifact === artifact.artifactId;
    const start = goesOn ? "" : `${end()}${artifactTitle(artifact)}\n`;
    openArtifact = artifact.artifactId;
    return start + artifactText(artifact);
  };
  const state = (status: TaskStatus | undefined): string => {
    if (!status) return "";
    const said = status.message ? `: ${partsText(status.message.parts)}` : "";
    if (status.state === lastState && said === "") return "";
    lastState = status.state;
    return `${end()}${stateName(status.state)}${said}\n`;
  };

  return {
    end,
    tell({ payload }) {
      switch (payload.case) {
        case "task": {
          const { id, artifacts, status } = payload.value;
          const start = `${end()}Task ${printable(id)}\n`;
          return start + artifacts.map((artifact) => chunk(artifact, false)).join("") + state(status);
        }
        case "message":
          return end() + messageText(payload.value);
        case "statusUpdate":
          return state(payload.value.status);
        case "artifactUpdate":
          return payload.value.artifact ? chunk(payload.value.artifact, payload.value.append) : "";
        default:
          return "";
      }
    },
  };
}

/** Whether a task in this state ended without what was asked of it. */
export const isFailure = (state: TaskState): boolean =>
  state === TaskState.FAILED || state === TaskState.REJECTED || state === TaskState.CANCELED;

/** How to answer a task that waits for its client, or for its approval; empty for any other. */
export function answerHint(taskId: string, state: TaskState, question?: Message): string {
  if (state !== TaskState.INPUT_REQUIRED) return "";
  const approvalId = approvalIn(question);
  if (approvalId !== undefined) return `Decide with: signalbox approvals approve ${printable(approvalId)}, or reject\n`;
  return `Answer with: signalbox send --task ${printable(taskId)} "..."\n`;
}

/** The approval that a question is about. */
function approvalIn(question: Message | undefined): string | undefined {
  for (const { content } of question?.parts ?? []) {
    if (content.case !== "data" || content.value.kind.case !== "structValue") continue;
    const { approvalId } = content.value.kind.value.fields;
    if (approvalId?.kind.case === "stringValue") return approvalId.kind.value;
  }
  return undefined;
}
