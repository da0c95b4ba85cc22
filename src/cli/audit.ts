/** `signalbox audit`: what was done, by whom, and the proof that the record of it is whole. */
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { toJson } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Command, InvalidArgumentError } from "commander";
import {
  type AuditEntry,
  CheckpointSchema,
  ListAuditKeysResponseSchema,
  ListEntriesResponseSchema,
} from "../../gen/signalbox/v1/audit_pb.ts";
import { addProveCommand } from "./audit-prove.ts";
import { addRotateCommand } from "./audit-rotate.ts";
import { addVerifyCommand } from "./audit-verify.ts";
import { json, table } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ListFlags extends ServerOptions {
  task?: string;
  actor?: string;
  action?: string;
  target?: string;
  id?: string;
  result?: string;
  since?: Date;
  until?: Date;
  limit: number;
}

export function addAuditCommands(program: Command, cli: Cli): void {
  const { io } = cli;
  const audit = program.command("audit").description("who did what, and the proof that the record of it is whole");

  const list = audit
    .command("list")
    .description("list entries, the latest first")
    .option("--task <id>", "only those about this task")
    .option("--actor <id>", "only what this one did, as anonymous or agent:writer")
    .option("--action <name>", "only this action, as task.accept")
    .option("--target <type>", "only what was done to this kind of thing, as task")
    .option("--id <id>", "only what was done to the thing of this id")
    .option("--result <reason>", "only with this result, as OK or POLICY_DENIED")
    .option("--since <time>", "only from this time on, as 2026-01-31 or 2026-01-31T12:00:00Z", parseTime)
    .option("--until <time>", "only before this time", parseTime)
    .option("--limit <number>", "how many at most", parseCount, 50);
  withServer(list).action((flags: ListFlags) =>
    callServer(cli, flags, async (client) => {
      const { task: taskId = "", actor = "", action = "", target: targetType = "" } = flags;
      const { since, until, id: targetId = "", result = "" } = flags;
      const times = {
        ...(since && { startTime: timestampFromDate(since) }),
        ...(until && { endTime: timestampFromDate(until) }),
      };
      const filter = { taskId, actor, action, targetType, targetId, result, ...times };
      const entries: AuditEntry[] = [];
      let pageToken = "";
      do {
        const pageSize = Math.min(1_000, flags.limit - entries.length);
        const page = await client.audit.listEntries({ ...filter, pageSize, pageToken });
        entries.push(...page.entries);
        pageToken = page.nextPageToken;
      } while (pageToken !== "" && entries.length < flags.limit);
      if (flags.json) {
        const $typeName = "signalbox.v1.ListEntriesResponse" as const;
        return io.out(json(toJson(ListEntriesResponseSchema, { $typeName, entries, nextPageToken: pageToken })));
      }
      io.out(entries.length === 0 ? "No entries.\n" : entryTable(entries));
      if (pageToken !== "") io.err("There are more: give a higher --limit.\n");
    }),
  );

  const checkpoint = audit
    .command("checkpoint")
    .description("print the latest signed checkpoint: keep it, and verify the log against it later")
    .option("--size <entries>", "the one of this size of the log", parseCount);
  withServer(checkpoint).action((flags: ServerOptions & { size?: number }) =>
    callServer(cli, flags, async (client) => {
      const found = await client.audit.getCheckpoint({ size: BigInt(flags.size ?? 0) });
      io.out(flags.json ? json(toJson(CheckpointSchema, found)) : found.note);
    }),
  );

  const exporting = audit
    .command("export <file>")
    .description("write the log to a file that can be verified elsewhere")
    .option("--start <index>", "from this entry on", parseIndex, 0)
    .option("--end <index>", "up to the one before this", parseCount);
  withServer(exporting).action((file: string, flags: ServerOptions & { start: number; end?: number }) =>
    callServer(cli, flags, async (client) => {
      const request = { startIndex: BigInt(flags.start), endIndex: BigInt(flags.end ?? 0) };
      let bytes = 0;
      await pipeline(async function* () {
        for await (const { lines } of client.audit.exportEntries(request)) {
          bytes += lines.length;
          yield lines;
        }
      }, createWriteStream(file));
      io.out(flags.json ? json({ file, bytes }) : `${bytes} bytes are in ${file}.\n`);
    }),
  );

  const keys = audit.command("keys").description("list the public keys that sign, or signed; the last one signs now");
  withServer(keys).action((flags: ServerOptions) =>
    callServer(cli, flags, async (client) => {
      const found = await client.audit.listAuditKeys({});
      if (flags.json) return io.out(json(toJson(ListAuditKeysResponseSchema, found)));
      const rows = found.keys.map(({ verifierKey, createTime, signedByPrevious, active }, i) => [
        verifierKey,
        createTime ? timestampDate(createTime).toISOString() : "",
        i === 0 ? "the first" : signedByPrevious.length > 0 ? "yes" : "NO",
        active ? "yes" : "no",
      ]);
      io.out(table(["KEY", "SINCE", "SIGNED BY THE ONE BEFORE", "IN USE"], rows));
    }),
  );
  addRotateCommand(keys, cli);
  addVerifyCommand(audit, cli);
  addProveCommand(audit, cli);
}

function entryTable(entries: readonly AuditEntry[]): string {
  const rows = entries.map(({ index, time, actor, action, targetType, targetId, taskId, result, detail }) => [
    index === undefined ? "-" : String(index),
    time ? timestampDate(time).toISOString() : "",
    actor,
    action,
    [targetType, targetId].filter(Boolean).join(" "),
    taskId,
    result,
    detail,
  ]);
  return table(["INDEX", "TIME", "ACTOR", "ACTION", "TARGET", "TASK", "RESULT", "DETAIL"], rows);
}

/** A day, which begins in UTC, or a moment with its zone. */
function parseTime(text: string): Date {
  const time = new Date(
    /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d))?$/.test(text) ? text : Number.NaN,
  );
  if (Number.isNaN(time.getTime())) throw new InvalidArgumentError("It is as 2026-01-31, or 2026-01-31T12:00:00Z.");
  return time;
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(count) || count < 1)
    throw new InvalidArgumentError("It is 1 or more.");
  return count;
}

function parseIndex(text: string): number {
  const index = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(index)) throw new InvalidArgumentError("It is 0 or more.");
  return index;
}
