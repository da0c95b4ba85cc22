/** About how many bytes of memory a report of an agent holds. */
import type {
  Artifact,
  Message,
  Task,
  TaskArtifactUpdateEvent,
  TaskStatusUpdateEvent,
} from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** What is held at most of one task while it is being stored. */
export const MAX_HELD_BYTES = 1024 * 1024;
/** What a report and a part of it cost besides what they say. */
const REPORT_BYTES = 1536;
const PART_BYTES = 256;

export function weightOfChunk({ artifact, metadata }: TaskArtifactUpdateEvent): number {
  return REPORT_BYTES + sizeOf(metadata) + (artifact ? weightOfParts(artifact) : 0);
}

export function weightOfStatus({ status, metadata }: TaskStatusUpdateEvent): number {
  return REPORT_BYTES + sizeOf(metadata) + (status?.message ? weightOfParts(status.message) : 0);
}

export function weightOfTask({ status, history, artifacts, metadata }: Task): number {
  let bytes = REPORT_BYTES + sizeOf(metadata) + (status?.message ? weightOfParts(status.message) : 0);
  for (const message of history) bytes += weightOfParts(message);
  for (const artifact of artifacts) bytes += weightOfParts(artifact);
  return bytes;
}

function weightOfParts({ parts, metadata }: Artifact | Message): number {
  let bytes = sizeOf(metadata);
  for (const { content, metadata: ofPart } of parts) {
    bytes += PART_BYTES + sizeOf(ofPart);
    bytes += content.case === "data" ? MAX_HELD_BYTES : (content.value?.length ?? 0);
  }
  return bytes;
}

const sizeOf = (struct: object | undefined): number => (struct ? JSON.stringify(struct).length : 0);
