/** What clients ask of the audit log: entries (listing.ts), checkpoints, proofs, all of it, and whether it is intact. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
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
  type ProveConsistencyRequest,
  type ProveInclusionRequest,
  type VerifyChainResponse,
  VerifyChainResponseSchema,
} from "../../../gen/signalbox/v1/audit_pb.ts";
import { originOf, verifierKey, writeVerifierKey } from "../../domain/audit/checkpoint.ts";
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
import type { AuditLogReads, CheckpointRecord } from "../../store/audit-log-reads.ts";
import type { RequestContext } from "../request-context.ts";
import type { AuditCheck } from "./checking.ts";
import { exportLog } from "./exporting.ts";
import { createAuditListing } from "./listing.ts";

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

  return {
    list: createAuditListing(reads),

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
