/** Writes a log out, as src/domain/audit/export.ts has it, for whoever verifies it elsewhere. */
import { originOf, verifierKey, writeVerifierKey } from "../../domain/audit/checkpoint.ts";
import { auditLine, NO_HASH } from "../../domain/audit/entry.ts";
import { MOST_SPANS, orderLine, sealLine, startLine } from "../../domain/audit/export.ts";
import type { Plan } from "../../domain/audit/tiles.ts";
import { planConsistency, planSubtrees } from "../../domain/audit/tiles.ts";
import type { AuditKeyRepository } from "../../store/audit-key-repository.ts";
import type { AuditLogReads, CheckpointRecord } from "../../store/audit-log-reads.ts";

/** Entries that are read at once. */
const PAGE = 1_024;
/** Entries after which their order is told: whoever verifies them need not remember it for longer. */
const ORDER_ENTRIES = 8 * PAGE;
/** Size of a chunk, about, in bytes. */
const CHUNK_BYTES = 256 * 1024;

export interface ExportDeps {
  reads: AuditLogReads;
  keys: Pick<AuditKeyRepository, "keys">;
  origin: string;
  /** The hashes of a plan. */
  planned(workspaceId: string, plan: Plan): Promise<Buffer[]>;
}

/** The lines of the entries from `start` up to `end`, and those that go with them, in chunks of whole lines. */
export async function* exportLog(
  { reads, keys, origin, planned }: ExportDeps,
  workspaceId: string,
  { start, end, checkpoint }: { start: number; end: number; checkpoint: CheckpointRecord },
): AsyncGenerator<Buffer> {
  let lines: string[] = [];
  let length = 0;
  const add = (line: string) => {
    lines.push(line);
    length += line.length + 1;
  };
  const taken = (): Buffer => {
    const chunk = Buffer.from(`${lines.join("\n")}\n`);
    lines = [];
    length = 0;
    return chunk;
  };

  if (start > 0) add(startLine({ start, before: await planned(workspaceId, planSubtrees(start)) }));
  for (let at = start; at < end; at += ORDER_ENTRIES) {
    const to = Math.min(end, at + ORDER_ENTRIES);
    for (let page = at; page < to; page += PAGE) {
      for (const entry of await reads.entries(workspaceId, page, Math.min(to, page + PAGE))) {
        add(auditLine(entry.chainId, entry.number, entry.previous ?? NO_HASH, entry.body));
        if (length >= CHUNK_BYTES) yield taken();
      }
    }
    for (let next = at; next < to; ) {
      const spans = await reads.spans(workspaceId, next, to, MOST_SPANS);
      if (spans.length === 0) break;
      const lasts = spans.map(({ firstIndex, count }) => firstIndex + count - 1);
      const hashes = await reads.leaves(workspaceId, lasts);
      add(orderLine(spans.map((span, i) => ({ ...span, lastHash: hashes[i] ?? new Uint8Array() }))));
      if (length >= CHUNK_BYTES) yield taken();
      next = lasts.at(-1)! + 1;
    }
  }
  const name = originOf(origin, workspaceId);
  add(
    sealLine({
      checkpoint: checkpoint.note,
      end,
      consistency: await planned(workspaceId, planConsistency(end, checkpoint.size)),
      keyOrigin: origin,
      keys: (await keys.keys()).map(({ publicKey, signedByPrevious }) => ({
        verifierKey: writeVerifierKey(verifierKey(name, publicKey)),
        signedByPrevious,
      })),
    }),
  );
  yield taken();
}
