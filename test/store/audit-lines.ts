/** Reading what the audit log holds, and checking its chains as a verifier does. */
import type { JsonObject } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { auditLine, lineHash, NO_HASH } from "../../src/domain/audit/entry.ts";
import type { Database } from "../../src/store/database.ts";
import { raw } from "./tables.ts";

export interface ReadEntry {
  chain: string;
  n: number;
  time: string;
  workspace: string;
  actor: string;
  action: string;
  target: string;
  id: string;
  task?: string;
  result: string;
  detail?: JsonObject;
}

/** All entries, by workspace, chain and number. */
export async function auditEntries(db: Database): Promise<ReadEntry[]> {
  const rows = await raw(db, "select * from audit_entries order by workspace_id, chain_id, n");
  return rows.map((row) => JSON.parse(auditLine(row.chain_id as string, row.n as number, NO_HASH, row.body as string)));
}

/** Checks that every chain goes from 1 to its head without a gap, and that each line has the hash of the one before it. */
export async function expectWholeChains(db: Database): Promise<void> {
  const heads = await raw(db, "select * from audit_chains order by workspace_id, chain_id");
  const rows = await raw(db, "select * from audit_entries order by workspace_id, chain_id, n");
  let at = 0;
  for (const head of heads) {
    let prev = NO_HASH;
    for (let n = 1; n <= (head.last_n as number); n++) {
      const row = rows[at++]!;
      expect([row.workspace_id, row.chain_id, row.n]).toEqual([head.workspace_id, head.chain_id, n]);
      const line = auditLine(row.chain_id as string, n, prev, row.body as string);
      prev = lineHash(line).toString("hex");
      expect(Buffer.from(row.hash as Uint8Array).toString("hex"), line).toBe(prev);
      const { time, workspace, task = null } = JSON.parse(line) as ReadEntry;
      expect([time, workspace, task]).toEqual([(row.at as Date).toISOString(), row.workspace_id, row.task_id]);
    }
    expect(Buffer.from(head.last_hash as Uint8Array).toString("hex")).toBe(prev);
  }
  expect(rows.length, "entries of no chain").toBe(at);
}
