/** What is given to the commands that check an audit log: the key that is believed, and a checkpoint that was kept. */
import { existsSync } from "node:fs";
import type { Command } from "commander";
import { type Note, readKeyBytes, readNote, readVerifierKey } from "../domain/audit/checkpoint.ts";
import type { TrustedKey } from "../domain/audit/checkpoint-faults.ts";
import { readGivenFile } from "./server-call.ts";

/** What is said where nothing tells whose key it is. */
export const NO_KEY_GIVEN =
  "Signed with the key that the log itself names. Give --key, from a place that you trust, to know that it is theirs.\n";

/** Adds the option `--key`. */
export const withKey = (command: Command): Command =>
  command.option(
    "--key <public>",
    "the public key that is believed, as `signalbox audit keys` shows it, or a file with it",
  );

/** A verifier key, or 32 bytes in base64 or hexadecimal; as it is, or in a file. */
export function keyIn(command: Command, given: string | undefined): TrustedKey | undefined {
  if (given === undefined) return undefined;
  const isFile = existsSync(given);
  const text = isFile ? readGivenFile(command, given).toString().trim() : given.trim();
  const named = readVerifierKey(text);
  if (named) return named;
  const publicKey = readKeyBytes(text);
  if (publicKey) return { publicKey };
  const told = isFile
    ? `${given} holds no such key`
    : "what is given is neither one nor the path of a file that exists";
  return command.error(`error: --key takes a key as \`signalbox audit keys\` shows it, or a file with one: ${told}.`);
}

/** The signed checkpoint in a file. */
export function noteIn(command: Command, path: string | undefined): Note | undefined {
  if (path === undefined) return undefined;
  const note = readNote(readGivenFile(command, path).toString());
  return note ?? command.error(`error: ${path} holds no signed checkpoint.`);
}
