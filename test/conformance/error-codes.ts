/** How each error looks in each binding: A2A specification, section 5.4, and docs for what A2A does not define. */
import type { ExpectedError } from "./case-file.ts";

/** Which table of codes a binding has. */
export type CodeTable = "grpc" | "http" | "json-rpc";

type Row = [grpc: string, http: number, jsonRpc: number];

const OF_A2A: Readonly<Record<string, Row>> = {
  TASK_NOT_FOUND: ["NOT_FOUND", 404, -32001],
  TASK_NOT_CANCELABLE: ["FAILED_PRECONDITION", 400, -32002],
  PUSH_NOTIFICATION_NOT_SUPPORTED: ["FAILED_PRECONDITION", 400, -32003],
  UNSUPPORTED_OPERATION: ["FAILED_PRECONDITION", 400, -32004],
  CONTENT_TYPE_NOT_SUPPORTED: ["INVALID_ARGUMENT", 400, -32005],
  INVALID_AGENT_RESPONSE: ["INTERNAL", 500, -32006],
  EXTENDED_AGENT_CARD_NOT_CONFIGURED: ["FAILED_PRECONDITION", 400, -32007],
  EXTENSION_SUPPORT_REQUIRED: ["FAILED_PRECONDITION", 400, -32008],
  VERSION_NOT_SUPPORTED: ["FAILED_PRECONDITION", 400, -32009],
};

const OF_SIGNALBOX: Readonly<Record<string, Row>> = {
  INVALID_ARGUMENT: ["INVALID_ARGUMENT", 400, -32602],
  INTERNAL: ["INTERNAL", 500, -32603],
  UNAUTHENTICATED: ["UNAUTHENTICATED", 401, -32050],
  PERMISSION_DENIED: ["PERMISSION_DENIED", 403, -32051],
  RESOURCE_EXHAUSTED: ["RESOURCE_EXHAUSTED", 429, -32052],
  UNAVAILABLE: ["UNAVAILABLE", 503, -32053],
  DEADLINE_EXCEEDED: ["DEADLINE_EXCEEDED", 504, -32054],
  NOT_FOUND: ["NOT_FOUND", 404, -32055],
  ALREADY_EXISTS: ["ALREADY_EXISTS", 409, -32056],
  FAILED_PRECONDITION: ["FAILED_PRECONDITION", 400, -32057],
  ABORTED: ["ABORTED", 409, -32058],
};

/** The code that a binding of this table must give an error, as text. */
export function bindingCode(table: CodeTable, { code, reason, domain }: ExpectedError): string {
  const row = domain === "signalbox" ? OF_SIGNALBOX[code] : OF_A2A[reason];
  if (row?.[0] !== code) throw new Error(`no table has ${reason} of ${domain} with ${code}`);
  const [grpc, http, jsonRpc] = row;
  if (table === "grpc") return grpc;
  return table === "http" ? `${http} ${grpc}` : String(jsonRpc);
}
