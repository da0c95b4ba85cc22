/** The use cases of the audit log over the database of a suite. */
import { create } from "@bufbuild/protobuf";
import { beforeEach } from "vitest";
import { ExportEntriesRequestSchema } from "../../gen/signalbox/v1/audit_pb.ts";
import { publicBytes } from "../../src/domain/audit/checkpoint.ts";
import type { Fault } from "../../src/domain/audit/fault.ts";
import { createLogVerifier } from "../../src/domain/audit/verify.ts";
import { createAuditLogService } from "../../src/services/audit/audit-log.ts";
import { createAuditCheck } from "../../src/services/audit/checking.ts";
import type { RequestContext } from "../../src/services/request-context.ts";
import { createAuditKeyRepository } from "../../src/store/audit-key-repository.ts";
import { createAuditLogReads } from "../../src/store/audit-log-reads.ts";
import { keyOf, ORIGIN } from "../fixtures/audit-log.ts";
import { resetAudit } from "../store/audit-lab.ts";
import type { BackendContext } from "../store/backends.ts";

export const contextOf = (id = "admin", scopes: string[] = ["*"], workspaceId = "default"): RequestContext =>
  ({
    workspaceId,
    principal: { id, workspaceId, scopes: new Set(scopes) },
    signal: new AbortController().signal,
  }) as never;

/** To be made within the suite, whose database is empty before each test. */
export function openAuditService(ctx: BackendContext) {
  const keys = () => createAuditKeyRepository(ctx.db);
  const reads = () => createAuditLogReads(ctx.db);
  const check = () => createAuditCheck({ reads: reads(), keys: keys(), origin: ORIGIN });
  const service = () => createAuditLogService({ reads: reads(), keys: keys(), check: check(), origin: ORIGIN });

  beforeEach(() => resetAudit(ctx.db));

  async function faults(start = 0): Promise<Fault[]> {
    const found: Fault[] = [];
    for await (const step of check()("default", start)) found.push(...step.faults);
    return found;
  }

  async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
    const found: T[] = [];
    for await (const item of items) found.push(item);
    return found;
  }

  async function exported(start = 0, end = 0): Promise<Buffer> {
    const request = create(ExportEntriesRequestSchema, { startIndex: BigInt(start), endIndex: BigInt(end) });
    const chunks: Uint8Array[] = [];
    for await (const { lines } of service().export(contextOf(), request)) chunks.push(lines);
    return Buffer.concat(chunks);
  }

  function verdictOn(file: Buffer, name = "first") {
    const verifier = createLogVerifier({ trusted: { publicKey: publicBytes(keyOf(name)) } });
    verifier.feed(file);
    return verifier.end();
  }

  return { keys, reads, check, service, faults, all, exported, verdictOn };
}
