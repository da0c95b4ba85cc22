/**
 * Whether what an agent gives fits the output schema of its capability: the data parts of a task's artifacts, as they are when
 * it is to be COMPLETED, and of a bare Message. What an agent says on its way, in statuses, is no output. Pure.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Message, Part, Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { dataParts, dataViolations } from "./data-parts.ts";
import { clip } from "./errors.ts";
import { type CheckBudget, checkBudget } from "./json-schema.ts";
import { applyArtifact, copyImage, type NewUpdate, stateBrought, type TaskImage } from "./task-log.ts";
import type { TaskResult } from "./task-result.ts";
import { EngineState } from "./task-state.ts";

/** What a misfit tells at most, in characters. */
const MAX_TEXT_LENGTH = 1024;
/** What is kept of the data at most, in characters. */
const MAX_RAW_LENGTH = 8192;

/** An answer that does not fit. */
export interface Misfit {
  /** A sentence for clients, which names the path. */
  readonly text: string;
  /** The data, for the log. */
  readonly raw: string;
}

/** What does not fit of a task that these updates bring to COMPLETED; undefined when all fits, or they do not. */
export function misfitOfTask(schema: JsonObject, image: TaskImage, updates: readonly NewUpdate[]): Misfit | undefined {
  if (!updates.some((update) => stateBrought(update) === EngineState.COMPLETED)) return undefined;
  const { task } = copyImage(image);
  for (const { body } of updates) if (body.payload.case === "artifactUpdate") applyArtifact(task, body.payload.value);
  return misfitOfArtifacts(schema, task);
}

/** What does not fit of a result that is whole. */
export const misfitOfResult = (schema: JsonObject, result: TaskResult): Misfit | undefined =>
  "task" in result ? misfitOfArtifacts(schema, result.task) : misfitOfMessage(schema, result.message);

function misfitOfArtifacts(schema: JsonObject, { artifacts }: Task): Misfit | undefined {
  const budget = checkBudget();
  for (const [i, { parts }] of artifacts.entries()) {
    const misfit = misfitOf(schema, parts, `artifacts[${i}]`, budget);
    if (misfit) return misfit;
  }
  return undefined;
}

/** What does not fit of a bare Message. */
export const misfitOfMessage = (schema: JsonObject, { parts }: Message): Misfit | undefined =>
  misfitOf(schema, parts, "message", checkBudget());

/** The first part that does not fit is told, and those after it are not looked at. */
function misfitOf(schema: JsonObject, parts: readonly Part[], at: string, budget: CheckBudget): Misfit | undefined {
  for (const part of dataParts(parts)) {
    const violations = dataViolations(schema, [part], at, budget);
    if (violations.length === 0) continue;
    const why = violations.map(({ field, description }) => `${field}: ${description}`).join("; ");
    return {
      text: `The agent's answer does not fit the output schema of its capability: ${clip(why, MAX_TEXT_LENGTH)}.`.toWellFormed(),
      raw: clip(JSON.stringify(part.data), MAX_RAW_LENGTH).toWellFormed(),
    };
  }
  return undefined;
}
