/** Texts that a command is given as files, or on standard input. */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import type { Cli } from "./run.ts";
import { readGivenFile } from "./server-call.ts";

/** What a file is called where something is said of it; `-` is standard input. */
export const nameOf = (file: string): string => (file === "-" ? "standard input" : file);

/** The bytes of a file, or of standard input. */
export const bytesOf = (command: Command, { io }: Cli, file: string): Buffer =>
  file === "-" ? (io.stdin?.() ?? readFileSync(0)) : readGivenFile(command, file);

export const textOf = (command: Command, cli: Cli, file: string): string => bytesOf(command, cli, file).toString();
