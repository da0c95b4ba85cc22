/**
 * An entry of the audit log: who did what to what, and what came of it. Its line is one JSON object without spaces, whose members
 * stand in one order; what is hashed is that line, so a verifier needs no JSON to check it. The line begins with its place in
 * its chain and the hash of the line before it, and the hash is the leaf hash of RFC 6962 (section 2.1), so that one hash
 * makes the chain and the tree. Pure.
 */
import { hash } from "node:crypto";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { canonicalJson, jsonText } from "../canonical-json.ts";

/** Something that was done, or refused. */
export interface AuditEvent {
  readonly workspaceId: string;
  readonly at: Date;
  /** A principal, as `anonymous`; an agent, as `agent:translator`; or a replica of the router, as `router:<replica>`. */
  readonly actor: string;
  /** As `task.accept`: the kind of target, and a verb. */
  readonly action: string;
  readonly targetType: string;
  readonly targetId: string;
  readonly taskId?: string | undefined;
  /** OK, or the reason of the error with which it was refused. */
  readonly result: string;
  /** Facts. Contents of messages and documents are here as digests only. Where its canonical JSON is longer than 4 KiB, its digest stands in its place. */
  readonly detail?: JsonObject;
}

/** The `prev` of the first line of a chain: 32 zero bytes, in hexadecimal. */
export const NO_HASH = "0".repeat(64);

/** What comes in a line after its place in the chain: the members, without the opening brace. */
export function auditBody(event: AuditEvent): string {
  const { at, workspaceId, actor, action, targetType, targetId, taskId, result, detail } = event;
  const task = taskId === undefined ? "" : `,"task":${jsonText(taskId)}`;
  const facts = detail === undefined ? "" : `,"detail":${detailText(detail)}`;
  return (
    `"time":"${at.toISOString()}","workspace":${jsonText(workspaceId)},"actor":${jsonText(actor)},` +
    `"action":${jsonText(action)},"target":${jsonText(targetType)},"id":${jsonText(targetId)}${task},` +
    `"result":${jsonText(result)}${facts}}`
  );
}

/** Bytes of a detail that is written as it is. */
const MOST_DETAIL = 4_096;

/** What many repeat, or a client makes long, must not make a line that no verifier takes for one. */
function detailText(detail: JsonObject): string {
  const text = canonicalText(detail);
  // No character takes more than three bytes for each of its code units.
  if (3 * text.length <= MOST_DETAIL) return text;
  const bytes = Buffer.byteLength(text);
  return bytes <= MOST_DETAIL ? text : `{"bytes":${bytes},"digest":"${hash("sha256", text)}"}`;
}

/** Half a surrogate pair, which a client may send, has no canonical JSON: it is replaced, as it is where text becomes UTF-8. */
function canonicalText(detail: JsonObject): string {
  try {
    return canonicalJson(detail);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return canonicalJson(wellFormed(detail));
  }
}

function wellFormed(value: JsonValue): JsonValue {
  if (typeof value === "string") return value.toWellFormed();
  if (Array.isArray(value)) return value.map(wellFormed);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name.toWellFormed(), wellFormed(each)]));
}

/** The whole line, without a line feed. The database writes the same: `n` from 1 on, `prev` in hexadecimal. */
export const auditLine = (chainId: string, n: number, prev: string, body: string): string =>
  `{"chain":${JSON.stringify(chainId)},"n":${n},"prev":"${prev}",${body}`;

/** The hash of a line: SHA-256 over a zero byte and the line in UTF-8. */
export const lineHash = (line: string): Buffer => hash("sha256", Buffer.from(`\0${line}`), "buffer");
