/** `signalbox audit prove`: the proof that an entry is in the log. The server is not believed: all of it is checked here. */
import { toJson } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type AuditKey, type InclusionProof, InclusionProofSchema } from "../../gen/signalbox/v1/audit_pb.ts";
import { type Note, readNote } from "../domain/audit/checkpoint.ts";
import { signatureFault, type TrustedKey } from "../domain/audit/checkpoint-faults.ts";
import { isIncluded } from "../domain/audit/proofs.ts";
import { keyIn, NO_KEY_GIVEN, withKey } from "./audit-given.ts";
import { facts, json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface ProveFlags extends ServerOptions {
  key?: string;
}

export function addProveCommand(audit: Command, cli: Cli): void {
  const { io } = cli;
  const command = withKey(
    audit.command("prove <index>").description("prove that an entry is in the log, by its place there or its hash"),
  );
  withServer(command).action((entry: string, flags: ProveFlags) => {
    const isHash = /^[0-9a-f]{64}$/i.test(entry);
    if (!isHash && !/^\d{1,15}$/.test(entry))
      return command.error("error: an entry is named by its index or its hash.");
    const trusted = keyIn(command, flags.key);
    return callServer(cli, flags, async ({ audit: server }) => {
      const found = await server.proveInclusion(isHash ? { hash: entry } : { index: BigInt(entry) });
      const note = readNote(found.checkpoint?.note ?? "");
      const { keys } = await server.listAuditKeys({});
      const isAsked = isHash ? hexOf(found.leafHash) === entry.toLowerCase() : found.index === BigInt(entry);
      const wrong = isAsked ? wrongWith(found, note, keys, trusted) : "the server has proven another entry";
      if (wrong !== undefined) cli.exitCode = 1;
      if (flags.json) return io.out(json(toJson(InclusionProofSchema, found)));
      io.out(
        facts([
          ["Entry", `${found.index} of ${found.size}`],
          ["Hash", hexOf(found.leafHash)],
          ["Proof", found.hashes.map((hash) => Buffer.from(hash).toString("base64")).join(" ") || "none is needed"],
          ["Proven", wrong === undefined ? "yes, by the checkpoint below" : `NO: ${wrong}`],
        ]),
      );
      io.out(`\n${found.checkpoint?.note}`);
      if (wrong === undefined && !trusted) io.err(NO_KEY_GIVEN);
    });
  });
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** Why a proof proves nothing; undefined where it does. */
function wrongWith(
  { leafHash, index, size, hashes }: InclusionProof,
  note: Note | undefined,
  keys: readonly AuditKey[],
  trusted: TrustedKey | undefined,
): string | undefined {
  if (note === undefined) return "there is no checkpoint with it";
  const place = { index: Number(index), size: Number(size), proof: hashes, root: note.root };
  if (note.size !== place.size || !isIncluded(leafHash, place)) return "the proof does not come to the root";
  const { origin } = note;
  const keyOrigin = origin.slice(0, origin.lastIndexOf("/"));
  return signatureFault(note, { keys, keyOrigin, end: note.size }, trusted)?.description;
}
