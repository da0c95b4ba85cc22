/** `signalbox audit verify`: reads a log, from a server or a file, and checks all of it here, with nothing but the public key. */
import { createReadStream, statSync } from "node:fs";
import type { Command } from "commander";
import { createLogVerifier, type Verdict } from "../domain/audit/verify.ts";
import { keyIn, NO_KEY_GIVEN, noteIn, withKey } from "./audit-given.ts";
import { facts, json } from "./printable.ts";
import type { Cli } from "./run.ts";
import { callServer, type ServerOptions, withServer } from "./server-call.ts";

interface VerifyFlags extends ServerOptions {
  key?: string;
  checkpoint?: string;
}

/** Between two lines of progress, in milliseconds. */
const PROGRESS_MS = 1_000;
/** Of a file, in bytes. */
const CHUNK_BYTES = 256 * 1024;

export function addVerifyCommand(audit: Command, cli: Cli): void {
  const { io } = cli;
  const command = withKey(
    audit
      .command("verify [file]")
      .description("check a log from its first entry to its checkpoint: an export, or all of the server's"),
  ).option("--checkpoint <file>", "a checkpoint that was kept: the log must begin with that one");
  withServer(command).action(async (file: string | undefined, flags: VerifyFlags) => {
    const trusted = keyIn(command, flags.key);
    const pinned = noteIn(command, flags.checkpoint);
    const verifier = createLogVerifier({ trusted, pinned });
    const progress = createProgress(cli, flags, () => verifier.entries);
    if (file !== undefined) {
      const { size } = statGiven(command, file);
      let read = 0;
      for await (const chunk of createReadStream(file, { highWaterMark: CHUNK_BYTES, signal: io.stop })) {
        verifier.feed(chunk as Buffer);
        read += (chunk as Buffer).length;
        progress(size === 0 ? 1 : read / size);
      }
      return tell(verifier.end());
    }
    await callServer(cli, flags, async (client) => {
      const total = Number((await client.audit.getCheckpoint({})).size);
      for await (const { lines } of client.audit.exportEntries({})) {
        verifier.feed(lines);
        progress(Math.min(1, verifier.entries / total));
      }
      tell(verifier.end());
    });

    function tell(verdict: Verdict): void {
      if (!verdict.intact) cli.exitCode = 1;
      const { intact, fault, entries, checkpoint } = verdict;
      if (flags.json) {
        const { origin, size } = checkpoint ?? {};
        io.out(json({ intact, entries, origin, size, ...(fault && { fault }) }));
        return;
      }
      io.out(
        facts([
          ["Intact", intact ? "yes" : "NO"],
          ["Entries", String(entries)],
          ["Log", checkpoint && `${checkpoint.origin}, ${checkpoint.size} entries`],
          ["What was done", fault && `${fault.kind.toLowerCase()}, at entry ${fault.index}`],
          ["", fault?.description],
        ]),
      );
      if (intact && !trusted) io.err(NO_KEY_GIVEN);
    }
  });
}

/** Tells from time to time how far it is; `done` is a share of all. */
function createProgress({ io }: Cli, { json: isForPrograms }: ServerOptions, entries: () => number) {
  let toldAt = performance.now();
  return (done: number): void => {
    const now = performance.now();
    if (isForPrograms || now - toldAt < PROGRESS_MS) return;
    toldAt = now;
    io.err(`${entries()} entries, ${Math.floor(done * 100)} %\n`);
  };
}

function statGiven(command: Command, path: string) {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isFile()) return found;
  return command.error(`error: ${path} ${found ? "is no file" : "does not exist"}.`);
}
