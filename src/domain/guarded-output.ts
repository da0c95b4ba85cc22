/**
 * What an agent says of a task whose output the policy looks at before it leaves: what of it may be seen at once, what is held back,
 * and what is known of all that would leave. Pure.
 */
import { type JsonObject, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { type Message, type Part, Role, type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { agentText, statusUpdate } from "./agent-report.ts";
import { applyUpdate, copyImage, type NewUpdate, type TaskImage } from "./task-log.ts";
import { isInterrupted, isTerminal } from "./task-state.ts";

/** Updates by what becomes of them. */
export interface SplitUpdates {
  /** Seen at once: states without a word, and what the client and the router say. */
  readonly passing: readonly NewUpdate[];
  /** Held back until the verdict. */
  readonly held: readonly NewUpdate[];
  /** How the agent ends or rests: now there must be a verdict. Undefined: not yet. */
  readonly rests: TaskState | undefined;
}

/** Splits what follows a task's log. Where it comes to a rest, all of it waits for the verdict. */
export function splitHeld({ task }: TaskImage, updates: readonly NewUpdate[]): SplitUpdates {
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

/**
 * A task as its agent knows it: with what is held back. Its state is the one that is seen. What is held grows from call to call,
 * and is added to the task once.
 */
export class HeldView {
  readonly #image: TaskImage;
  readonly #seq: number;
  readonly #whole: TaskImage;
  #added = 0;

  constructor(image: TaskImage) {
    this.#image = image;
    this.#seq = image.seq;
    this.#whole = copyImage(image);
  }

  /** Whether it is of this task, as it stands. */
  isOf = (image: TaskImage): boolean => image === this.#image && image.seq === this.#seq;

  /** With all that is held, which begins with what was held at the last call. */
  with(held: readonly NewUpdate[]): TaskImage {
    const [image, whole] = [this.#image, this.#whole];
    for (; this.#added < held.length; this.#added++) {
      applyUpdate(whole, { ...held[this.#added]!, seq: whole.seq + 1 });
    }
    const [status, seen] = [whole.task.status, image.task.status];
    const task = status && seen ? { ...whole.task, status: { ...status, state: seen.state } } : whole.task;
    return { ...image, task, reply: whole.reply };
  }
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
    if (known) for (const part of artifact.parts) known.push(part);
    else {
      const parts = [...artifact.parts];
      artifacts.set(artifact.artifactId, parts);
      groups.push(parts);
    }
  }
  return { groups, artifacts: artifacts.size };
}

/**
 * All words that would leave: those of parts first, then, line by line, what else is said of them: names, descriptions and
 * metadata. Chunks are joined without anything between them, so that nothing hides where one ends.
 */
export function wordsOf(updates: readonly NewUpdate[]): string {
  const lines = partsOf(updates).groups.map(wordsOfParts);
  for (const { body } of updates) saidAside(body, lines);
  return lines.join("\n");
}

function wordsOfParts(parts: readonly Part[]): string {
  let words = "";
  // The bytes of a character may be in two chunks.
  let utf8: InstanceType<typeof TextDecoder> | undefined;
  for (const { content, mediaType } of parts) {
    if (content.case === "raw") {
      if (!TEXTUAL.test(mediaType)) continue;
      utf8 ??= new TextDecoder();
      words += utf8.decode(content.value, { stream: true });
      continue;
    }
    if (utf8) words += utf8.decode();
    utf8 = undefined;
    if (content.case === "text" || content.case === "url") words += content.value;
    if (content.case === "data") words += JSON.stringify(toJson(ValueSchema, content.value));
  }
  return utf8 ? words + utf8.decode() : words;
}

/** Media types of files that are text. */
const TEXTUAL = /^\s*(?:text\/|application\/(?:[^;]*\+)?(?:json|xml|yaml|javascript|x-yaml)\s*(?:;|$))/i;

/** What is neither a part nor an id. */
function saidAside({ payload }: StreamResponse, lines: string[]): void {
  const add = (words: string | JsonObject | undefined) => {
    if (words) lines.push(typeof words === "string" ? words : JSON.stringify(words));
  };
  const addOf = ({ parts, metadata, extensions }: Pick<Message, "parts" | "metadata" | "extensions">) => {
    add(metadata);
    add(extensions.join(" "));
    for (const part of parts) {
      add(part.filename);
      add(part.metadata);
    }
  };
  switch (payload.case) {
    case "message":
      addOf(payload.value);
      break;
    case "statusUpdate": {
      const { status, metadata } = payload.value;
      add(metadata);
      if (status?.message) addOf(status.message);
      break;
    }
    case "artifactUpdate": {
      const { artifact, metadata } = payload.value;
      add(metadata);
      if (!artifact) break;
      add(artifact.name);
      add(artifact.description);
      addOf(artifact);
      break;
    }
    case "task":
      add(payload.value.metadata);
  }
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
