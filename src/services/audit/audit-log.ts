/** What clients ask of the audit log: entries, checkpoints, proofs, all of it, and whether it is intact. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { type Timestamp, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type AuditEntry,
  AuditEntrySchema,
  type AuditFault,
  AuditFault_Kind,
  AuditFaultSchema,
  type AuditKey,
  AuditKeySchema,
  type Checkpoint,
  CheckpointSchema,
  type ConsistencyProof,
  ConsistencyProofSchema,
  type ExportEntriesRequest,
  type InclusionProof,
  InclusionProofSchema,
  type ListEntriesRequest,
  type ListEntriesResponse,
  ListEntriesResponseSchema,
  type ProveConsistencyRequest,
  type ProveInclusionRequest,
  type VerifyChainResponse,
  VerifyChainResponseSchema,
} from "../../../gen/signalbox/v1/audit_pb.ts";
import { originOf, verifierKey, writeVerifierKey } from "../../domain/audit/checkpoint.ts";
import { auditLine, NO_HASH } from "../../domain/audit/entry.ts";
import { type Fault, firstFault } from "../../domain/audit/fault.ts";
import {
  hashesOf,
  type Plan,
  planConsistency,
  planInclusion,
  planRoot,
  TILE_HASHES,
  tilesOf,
} from "../../domain/audit/tiles.ts";
import { invalidArgument, queueFull, SignalboxError } from "../../domain/errors.ts";
import type { AuditKeyRepository } from "../../store/audit-key-repository.ts";
import type { AuditLogReads, CheckpointRecord, EntryFilter, LogEntry } from "../../store/audit-log-reads.ts";
import type { RequestContext } from "../request-context.ts";
import type { AuditCheck } from "./checking.ts";
import { exportLog } from "./exporting.ts";

/** Entries of a page, unless the request says how many; and at most. */
const PAGE = 100;
const MOST_PAGE = 1_000;
/** Entries that are looked at for one page, and in one statement. */
const MOST_SCANNED = 20_000;
const SCAN = 4_000;
/** Tiles in which a hash is looked for: those of the last million entries. */
const MOST_TILES = 4_096;
/** Checks of whole logs, and exports, that one server runs at once. */
const MOST_CHECKS = 2;
const MOST_EXPORTS = 8;

export interface AuditLogService {
  list(context: RequestContext, request: ListEntriesRequest): Promise<ListEntriesResponse>;
  /** `size` 0: the latest. */
  checkpoint(context: RequestContext, size: bigint): Promise<Checkpoint>;
  proveInclusion(context: RequestContext, request: ProveInclusionRequest): Promise<InclusionProof>;
  proveConsistency(context: RequestContext, request: ProveConsistencyRequest): Promise<ConsistencyProof>;
  verify(context: RequestContext, startIndex: bigint): AsyncIterable<VerifyChainResponse>;
  export(context: RequestContext, request: ExportEntriesRequest): AsyncIterable<{ lines: Uint8Array }>;
  keys(context: RequestContext): Promise<AuditKey[]>;
}

export interface AuditLogServiceDeps {
  reads: AuditLogReads;
  keys: Pick<AuditKeyRepository, "keys">;
  check: AuditCheck;
  /** What the logs are called. */
  origin: string;
}

export function createAuditLogService({ reads, keys, check, origin }: AuditLogServiceDeps): AuditLogService {
  const checks = createPlaces("audit.verify", MOST_CHECKS);
  const exports = createPlaces("audit.export", MOST_EXPORTS);

  async function checkpointOf(workspaceId: string, size: number): Promise<CheckpointRecord> {
    const found = await reads.checkpoint(workspaceId, size === 0 ? undefined : size);
    if (!found) throw checkpointNotFound(size);
    return found;
  }

  const shown = (workspaceId: string, { size, root, note, createdAt }: CheckpointRecord): Checkpoint =>
    create(CheckpointSchema, {
      origin: originOf(origin, workspaceId),
      size: BigInt(size),
      rootHash: root,
      time: timestampFromDate(createdAt),
      note,
    });

  async function planned(workspaceId: string, plan: Plan): Promise<Buffer[]> {
    const tiles = await reads.tiles(workspaceId, tilesOf(plan));
    try {
      return hashesOf(plan, tiles);
    } catch (error) {
      throw damaged(error);
    }
  }

  async function placeAsked(workspaceId: string, request: ProveInclusionRequest, size: number): Promise<number> {
    const { index, hash, chainId, number } = request;
    if (index !== undefined) return wholeNumber("index", index);
    if (chainId !== "") {
      if (chainId.includes("\0")) throw entryNotFound();
      const place = await reads.placeOf(workspaceId, chainId, wholeNumber("number", number));
      if (place !== undefined) return place;
      throw (await reads.hasEntry(workspaceId, chainId, Number(number))) ? notInLogYet() : entryNotFound();
    }
    if (!/^[0-9a-f]{64}$/i.test(hash)) {
      const description = "must be 64 hexadecimal digits; or give index, or chainId and number";
      throw invalidArgument([{ field: "hash", description }]);
    }
    const place = await reads.placeOfHash(workspaceId, Buffer.from(hash, "hex"), size, MOST_TILES);
    if (place === undefined) throw entryNotFound();
    return place;
  }

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

  return {
    async list({ workspaceId, principal }, request) {
      const limit = pageSize(request.pageSize);
      const filter = filterOf(request);
      const isAuditor = principal.scopes.has("*") || principal.scopes.has("audit.admin");
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
    },

    checkpoint: async ({ workspaceId }, size) =>
      shown(workspaceId, await checkpointOf(workspaceId, wholeNumber("size", size))),

    async proveInclusion({ workspaceId }, request) {
      const checkpoint = await checkpointOf(workspaceId, wholeNumber("size", request.size));
      const { size } = checkpoint;
      const index = await placeAsked(workspaceId, request, size);
      if (index >= size) throw notInLogYet();
      const hashes = await planned(workspaceId, planInclusion(index, size));
      const [leafHash] = await reads.leaves(workspaceId, [index]);
      if (!leafHash) throw damaged();
      return create(InclusionProofSchema, {
        index: BigInt(index),
        size: BigInt(size),
        leafHash,
        hashes,
        checkpoint: shown(workspaceId, checkpoint),
      });
    },

    async proveConsistency({ workspaceId }, request) {
      const { size: latest } = await checkpointOf(workspaceId, 0);
      const firstSize = wholeNumber("firstSize", request.firstSize);
      const secondSize = wholeNumber("secondSize", request.secondSize) || latest;
      if (secondSize > latest) throw tooLarge("secondSize", latest);
      if (firstSize > secondSize) throw tooLarge("firstSize", secondSize);
      const [firstRoot] = await planned(workspaceId, planRoot(firstSize));
      const [secondRoot] = await planned(workspaceId, planRoot(secondSize));
      return create(ConsistencyProofSchema, {
        firstSize: BigInt(firstSize),
        secondSize: BigInt(secondSize),
        hashes: await planned(workspaceId, planConsistency(firstSize, secondSize)),
        firstRoot: firstRoot!,
        secondRoot: secondRoot!,
      });
    },

    async *verify({ workspaceId, signal }, startIndex) {
      const start = wholeNumber("startIndex", startIndex);
      const leave = checks.take();
      try {
        let fault: Fault | undefined;
        let [verifiedCount, totalCount] = [0n, 0n];
        for await (const step of check(workspaceId, start)) {
          signal.throwIfAborted();
          fault = firstFault([fault, ...step.faults]);
          verifiedCount = BigInt(step.verified);
          totalCount = BigInt(step.total);
          // Once in 16 tiles is often enough to see that it goes on.
          if (step.verified % (16 * TILE_HASHES) === 0)
            yield create(VerifyChainResponseSchema, { verifiedCount, totalCount });
        }
        const verdict = { intact: !fault, ...(fault && { fault: faultOf(fault) }) };
        yield create(VerifyChainResponseSchema, { verifiedCount, totalCount, verdict });
      } finally {
        leave();
      }
    },

    async *export({ workspaceId, signal }, request) {
      const leave = exports.take();
      try {
        const checkpoint = await checkpointOf(workspaceId, 0);
        const end = wholeNumber("endIndex", request.endIndex) || checkpoint.size;
        const start = wholeNumber("startIndex", request.startIndex);
        if (end > checkpoint.size) throw tooLarge("endIndex", checkpoint.size);
        if (start > end) throw tooLarge("startIndex", end);
        const deps = { reads, keys, origin, planned };
        for await (const lines of exportLog(deps, workspaceId, { start, end, checkpoint })) {
          signal.throwIfAborted();
          yield { lines };
        }
      } finally {
        leave();
      }
    },

    async keys({ workspaceId }) {
      const all = await keys.keys();
      return all.map(({ number, publicKey, signedByPrevious, createdAt }) =>
        create(AuditKeySchema, {
          verifierKey: writeVerifierKey(verifierKey(originOf(origin, workspaceId), publicKey)),
          createTime: timestampFromDate(createdAt),
          ...(signedByPrevious && { signedByPrevious }),
          active: number === all.length,
        }),
      );
    },
  };
}

const nameOf = ({ chainId, number }: LogEntry): string => `${chainId} ${number}`;

/** Places for what a server does only so often at once. */
function createPlaces(name: string, most: number) {
  let taken = 0;
  return {
    take(): () => void {
      if (taken >= most) throw queueFull(name);
      taken += 1;
      return () => {
        taken -= 1;
      };
    },
  };
}

function filterOf(request: ListEntriesRequest): EntryFilter {
  const { taskId, actor, action, targetType, targetId, result, startTime, endTime } = request;
  const texts = { taskId, actor, action, targetType, targetId, result };
  for (const [field, text] of Object.entries(texts)) {
    if (text.length > 1024) throw invalidArgument([{ field, description: "has 1024 characters at most" }]);
  }
  if (taskId.includes("\0")) throw invalidArgument([{ field: "taskId", description: "is no id of a task" }]);
  const named = Object.fromEntries(Object.entries(texts).filter(([, text]) => text !== ""));
  return {
    ...named,
    ...(startTime && { start: dateIn("startTime", startTime) }),
    ...(endTime && { end: dateIn("endTime", endTime) }),
  };
}

function dateIn(field: string, time: Timestamp): Date {
  const date = timestampDate(time);
  const year = date.getUTCFullYear();
  if (year >= 1 && year <= 9999) return date;
  throw invalidArgument([{ field, description: "must be a time of the years 1 to 9999" }]);
}

const response = (entries: readonly LogEntry[], next: number | undefined): ListEntriesResponse =>
  create(ListEntriesResponseSchema, {
    entries: entries.map(shownEntry),
    nextPageToken: next === undefined || next === 0 ? "" : Buffer.from(`before ${next}`).toString("base64url"),
  });

function readToken(token: string): number | undefined {
  if (token === "") return undefined;
  const [, place] = /^before (\d{1,15})$/.exec(Buffer.from(token, "base64url").toString()) ?? [];
  if (place !== undefined) return Number(place);
  throw invalidArgument([{ field: "pageToken", description: "is not a nextPageToken of ListEntries" }]);
}

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

const faultOf = ({ kind, index, chainId, number, description }: Fault): AuditFault =>
  create(AuditFaultSchema, {
    kind: AuditFault_Kind[kind],
    index: BigInt(index),
    chainId,
    number: BigInt(number),
    description,
  });

function wholeNumber(field: string, value: bigint): number {
  if (value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw invalidArgument([{ field, description: "must be a whole number, 0 or more" }]);
}

const tooLarge = (field: string, most: number) =>
  invalidArgument([
    { field, description: `must be ${most} at most: the log, or the part that is asked for, is no longer` },
  ]);

const checkpointNotFound = (size: number) =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "CHECKPOINT_NOT_FOUND",
    message:
      size === 0
        ? "There is no checkpoint yet: nothing is in the log, or no server has the key that signs it."
        : `There is no checkpoint of size ${size}. Leave the size out for the latest.`,
  });

const entryNotFound = () =>
  new SignalboxError({
    code: "NOT_FOUND",
    reason: "ENTRY_NOT_FOUND",
    message:
      "There is no such entry. A hash is looked for among the last million; older ones by index, or chain and number.",
  });

const notInLogYet = () =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "NOT_IN_LOG_YET",
    message: "The entry is not in the log of that size. A new one is about a second after it was written.",
    retryAfterMs: 1_000,
  });

const damaged = (cause?: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "AUDIT_LOG_DAMAGED",
    message: "The log is damaged: its tree is not whole. VerifyChain says where.",
    cause,
  });
