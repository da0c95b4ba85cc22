/** Pages of the audit log's entries: who sees which, the latest first, those that are in no checkpoint yet before the others. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AuditEntry,
  AuditEntrySchema,
  type ListEntriesRequest,
  type ListEntriesResponse,
  ListEntriesResponseSchema,
} from "../../../gen/signalbox/v1/audit_pb.ts";
import { auditLine, NO_HASH } from "../../domain/audit/entry.ts";
import { invalidArgument } from "../../domain/errors.ts";
import { holds } from "../../domain/identity/principal.ts";
import { refuse } from "../../domain/refusal.ts";
import { timestampViolations } from "../../domain/timestamps.ts";
import type { AuditLogReads, EntryFilter, LogEntry } from "../../store/audit-log-reads.ts";
import { pageToken, pageTokenAs } from "../paging.ts";
import type { RequestContext } from "../request-context.ts";

/** Entries of a page, unless the request says how many; and at most. */
const PAGE = 100;
const MOST_PAGE = 1_000;
/** Entries that are looked at for one page, and in one statement. */
const MOST_SCANNED = 20_000;
const SCAN = 4_000;

/** Asks for a page. */
export type AuditListing = (context: RequestContext, request: ListEntriesRequest) => Promise<ListEntriesResponse>;

export function createAuditListing(reads: AuditLogReads): AuditListing {
  async function scan(workspaceId: string, filter: EntryFilter, before: number, wanted: number) {
    const found: LogEntry[] = [];
    let at = before;
    const floor = Math.max(0, before - MOST_SCANNED);
    while (at > floor && found.length < wanted) {
      // Where everything fits, a page is all that is read.
      const step = Object.keys(filter).length === 0 ? wanted - found.length : SCAN;
      const from = Math.max(floor, at - step);
      const page = (await reads.entries(workspaceId, from, at, filter)).reverse();
      found.push(...page.slice(0, wanted - found.length));
      at = found.length === wanted ? found.at(-1)!.index! : from;
    }
    return { found, next: at > 0 ? at : undefined };
  }

  return async function list({ workspaceId, principal }, request) {
    const limit = pageSize(request.pageSize);
    const filter = filterOf(request);
    const isAuditor = holds(principal, "audit.admin");
    if (!isAuditor && (filter.actor ?? principal.id) !== principal.id) return create(ListEntriesResponseSchema, {});
    if (!isAuditor) filter.actor = principal.id;
    const before = readToken(request.pageToken);
    const isFirst = before === undefined;
    const sizeNow = async () => (await reads.checkpoint(workspaceId))?.size ?? 0;
    if (filter.taskId !== undefined) {
      let found = await reads.ofTask(workspaceId, filter, before, limit);
      // Those that are in no log yet are shown where they fit: they have no place to go on from.
      if (found.length === limit && found.at(-1)!.index === undefined) {
        found = await reads.ofTask(workspaceId, filter, await sizeNow(), limit);
      }
      return response(found, found.length === limit ? found.at(-1)!.index : undefined);
    }
    const pending = isFirst ? await reads.pending(workspaceId, filter, limit + 1) : [];
    const fitting = pending.length <= limit ? pending : [];
    // The size comes after them: what is folded in between is in both, rather than in none.
    const { found, next } = await scan(workspaceId, filter, before ?? (await sizeNow()), limit - fitting.length);
    const folded = new Set(found.map(nameOf));
    return response([...fitting.filter((entry) => !folded.has(nameOf(entry))), ...found], next);
  };
}

const nameOf = ({ chainId, number }: LogEntry): string => `${chainId} ${number}`;

function filterOf(request: ListEntriesRequest): EntryFilter {
  const { taskId, actor, action, targetType, targetId, result, startTime, endTime } = request;
  const texts = { taskId, actor, action, targetType, targetId, result };
  for (const [field, text] of Object.entries(texts)) {
    if (text.length > 1024) throw invalidArgument([{ field, description: "has 1024 characters at most" }]);
  }
  if (taskId.includes("\0")) throw invalidArgument([{ field: "taskId", description: "is no id of a task" }]);
  refuse([...timestampViolations("startTime", startTime), ...timestampViolations("endTime", endTime)]);
  const named = Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ""));
  return {
    ...named,
    ...(startTime && { start: timestampDate(startTime) }),
    ...(endTime && { end: timestampDate(endTime) }),
  };
}

const response = (entries: readonly LogEntry[], next: number | undefined): ListEntriesResponse =>
  create(ListEntriesResponseSchema, {
    entries: entries.map(shownEntry),
    nextPageToken: next === undefined || next === 0 ? "" : pageToken(`before ${next}`),
  });

const readToken = (token: string): number | undefined =>
  pageTokenAs(token, "ListEntries", (text) => {
    const [, place] = /^before (\d{1,15})$/.exec(text) ?? [];
    return place === undefined ? undefined : Number(place);
  });

function pageSize(asked: number): number {
  if (asked >= 0 && asked <= MOST_PAGE) return asked || PAGE;
  throw invalidArgument([{ field: "pageSize", description: `must be 1 to ${MOST_PAGE}` }]);
}

function shownEntry({ index, chainId, number, previous, body, hash }: LogEntry): AuditEntry {
  const members = parsed(body);
  const text = (name: string) => (typeof members[name] === "string" ? members[name] : "");
  const time = new Date(text("time"));
  return create(AuditEntrySchema, {
    ...(index !== undefined && { index: BigInt(index) }),
    chainId,
    number: BigInt(number),
    ...(!Number.isNaN(time.getTime()) && { time: timestampFromDate(time) }),
    actor: text("actor"),
    action: text("action"),
    targetType: text("target"),
    targetId: text("id"),
    taskId: text("task"),
    result: text("result"),
    detail: members.detail === undefined ? "" : JSON.stringify(members.detail),
    hash: Buffer.from(hash).toString("hex"),
    line: auditLine(chainId, number, previous ?? NO_HASH, body),
  });
}

/** An entry that somebody edited may be anything. */
function parsed(body: string): JsonObject {
  try {
    return JSON.parse(`{${body}`) as JsonObject;
  } catch {
    return {};
  }
}
