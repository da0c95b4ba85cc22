/**
 * What an agent says of a task whose output the policy looks at before it leaves: what of it may be seen at once, what is held back,
 * and what is known of all that would leave. Pure.
 */
import { toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Part, Role, type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, statusUpdate } from "./agent-report.ts";
import type { RuleRef } from "./policy/verdict.ts";
import { applyUpdate, copyImage, type NewUpdate, type TaskImage } from "./task-log.ts";
import { isInterrupted, isTerminal } from "./task-state.ts";

/** Updates by what becomes of them. */
export interface Sifted {
  /** Seen at once: states without a word, and what the client and the router say. */
  readonly passing: readonly NewUpdate[];
  /** Held back until the verdict. */
  readonly held: readonly NewUpdate[];
  /** How the agent ends or rests: now there must be a verdict. Undefined: not yet. */
  readonly rests: TaskState | undefined;
}

/** Sifts what follows a task's log. Where it comes to a rest, all of it waits for the verdict. */
export function sift({ task }: TaskImage, updates: readonly NewUpdate[]): Sifted {
  const passing: NewUpdate[] = [];
  const held: NewUpdate[] = [];
  let rests: TaskState | undefined;
  let seen = task.status?.state;
  for (const update of updates) {
    const { payload } = update.body;
    if (update.kind === "reply") rests = TaskState.COMPLETED;
    const event = payload.case === "statusUpdate" ? payload.value : undefined;
    const status = event?.status;
    const isMute = !status?.message && !event?.metadata;
    if (status && isRest(status.state) && !(isMute && status.state === TaskState.CANCELED)) rests = status.state;
    if (!isOfAgent(update) || (event && isMute)) {
      passing.push(withoutWords(update));
      if (status) seen = status.state;
      continue;
    }
    held.push(update);
    if (!status || status.state === seen || !event) continue;
    const { timestamp, state } = status;
    seen = state;
    passing.push(
      statusUpdate(event, { state, timestamp: timestamp! }, "reported by the agent; what it says is held back"),
    );
  }
  return { passing, held, rests };
}

const isRest = (state: TaskState): boolean => isTerminal(state) || isInterrupted(state);

/** The cause of an attempt that failed tells in whose words. */
function withoutWords(update: NewUpdate): NewUpdate {
  const [, attempt, next] = /^(attempt \d+ failed): .*(; [^;]*)$/s.exec(update.cause ?? "") ?? [];
  return attempt === undefined ? update : { ...update, cause: `${attempt}${next}` };
}

function isOfAgent({ kind, body: { payload } }: NewUpdate): boolean {
  if (kind === "transition") return false;
  return !(kind === "message" && payload.case === "message" && payload.value.role === Role.USER);
}

/** The task as its agent knows it: with what is held back. Its state is the one that is seen. */
export function withHeld(image: TaskImage, held: readonly NewUpdate[]): TaskImage {
  if (held.length === 0) return image;
  const whole = copyImage(image);
  for (const update of held) applyUpdate(whole, { ...update, seq: whole.seq + 1 });
  const { status } = image.task;
  if (whole.task.status && status) whole.task.status = { ...whole.task.status, state: status.state };
  return { ...whole, seq: image.seq, state: image.state };
}

/** What was held back as it is released: the task has begun to work by then. */
export const released = (held: readonly NewUpdate[]): NewUpdate[] =>
  held.map((update) => {
    const { payload } = update.body;
    if (payload.case !== "statusUpdate" || payload.value.status?.state !== TaskState.SUBMITTED) return update;
    const status = { ...payload.value.status, state: TaskState.WORKING };
    const body: StreamResponse = { ...update.body, payload: { ...payload, value: { ...payload.value, status } } };
    return { ...update, body };
  });

/** All parts that would leave: those of one artifact or message together, in order. */
export function partsOf(updates: readonly NewUpdate[]): { groups: readonly (readonly Part[])[]; artifacts: number } {
  const artifacts = new Map<string, Part[]>();
  const groups: Part[][] = [];
  for (const {
    body: { payload },
  } of updates) {
    if (payload.case === "message") groups.push(payload.value.parts);
    if (payload.case === "statusUpdate" && payload.value.status?.message)
      groups.push(payload.value.status.message.parts);
    const artifact = payload.case === "artifactUpdate" ? payload.value.artifact : undefined;
    if (!artifact) continue;
    const known = artifacts.get(artifact.artifactId);
    if (known) known.push(...artifact.parts);
    else {
      const parts = [...artifact.parts];
      artifacts.set(artifact.artifactId, parts);
      groups.push(parts);
    }
  }
  return { groups, artifacts: artifacts.size };
}

/** The words of parts. Chunks are joined without anything between them, so that nothing hides where one ends. */
export const textOfParts = (groups: readonly (readonly Part[])[]): string =>
  groups.map((parts) => parts.map(wordsOf).join("")).join("\n");

function wordsOf({ content }: Part): string {
  if (content.case === "text" || content.case === "url") return content.value;
  return content.case === "data" ? JSON.stringify(toJson(ValueSchema, content.value)) : "";
}

/** What ends a task of which nothing may leave. */
export function withheldUpdate(
  image: TaskImage,
  messageId: string,
  why: string,
  now: NonNullable<Timestamp>,
): NewUpdate {
  const { header } = image;
  const message = agentText(header, messageId, `The output of this task was withheld by policy: ${why}.`);
  return statusUpdate(header, { state: TaskState.FAILED, timestamp: now, message }, `withheld by policy: ${why}`);
}

type Timestamp = Parameters<typeof statusUpdate>[1]["timestamp"];

/** A rule, as whoever must live with it reads it. */
export const told = (rule: RuleRef | undefined): string =>
  rule === undefined ? "by default" : rule.description === "" ? rule.path : `${rule.description} (${rule.path})`;
