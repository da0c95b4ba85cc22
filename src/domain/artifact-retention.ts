/**
 * Artifacts whose contents were removed, because they had been kept long enough. Such an artifact keeps its id, its name and its
 * description. Its metadata say when that was, and nothing else. Pure.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import type { Artifact, Part, StreamResponse } from "../../gen/lf/a2a/v1/a2a_pb.ts";

/** The key of its metadata: `{"removedAt": "2026-01-31T12:00:00.000Z"}`. */
export const RETENTION_EXTENSION = "urn:signalbox:a2a:retention:v1";

/** Whether the contents of an artifact, or of the chunk of one, were removed. */
export const isEmptied = ({ metadata = {}, parts, extensions }: Artifact): boolean =>
  isMark(metadata[RETENTION_EXTENSION]) &&
  Object.keys(metadata).length === 1 &&
  extensions.length === 0 &&
  parts.every(isPlaceholder);

// An agent may write the same. Then it says no more than this does.
const isMark = (value: JsonValue | undefined): boolean =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  Object.keys(value).length === 1 &&
  typeof value.removedAt === "string" &&
  MOMENT.test(value.removedAt);

const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const isPlaceholder = ({ content, metadata, filename, mediaType }: Part): boolean =>
  content.case === "text" && content.value === "" && !metadata && filename === "" && mediaType === "";

/**
 * The same artifact update without what it held; undefined where it is none, or holds nothing any more. It still tells which artifact
 * it was, and whether it began it, went on with it or closed it, so that a log with it reads as before. In the place of its parts is
 * one empty text, because an artifact has a part at least (A2A specification, section 4.1.7).
 */
export function withoutContents({ payload }: StreamResponse, removedAt: Date): StreamResponse | undefined {
  if (payload.case !== "artifactUpdate") return undefined;
  const { taskId, contextId, artifact, append, lastChunk, metadata } = payload.value;
  if (!artifact || (isEmptied(artifact) && metadata === undefined)) return undefined;
  const { artifactId, name, description } = artifact;
  const emptied: Artifact = {
    $typeName: "lf.a2a.v1.Artifact",
    artifactId,
    name,
    description,
    parts: [{ $typeName: "lf.a2a.v1.Part", content: { case: "text", value: "" }, filename: "", mediaType: "" }],
    metadata: { [RETENTION_EXTENSION]: { removedAt: removedAt.toISOString() } },
    extensions: [],
  };
  const value = {
    $typeName: "lf.a2a.v1.TaskArtifactUpdateEvent" as const,
    taskId,
    contextId,
    artifact: emptied,
    append,
    lastChunk,
  };
  return { $typeName: "lf.a2a.v1.StreamResponse", payload: { case: "artifactUpdate", value } };
}
