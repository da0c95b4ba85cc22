/** `signalbox audit keys rotate`: a new private key beside the old one. A server takes it up, and has it signed, when it starts. */
import { generateKeyPairSync } from "node:crypto";
import { existsSync, linkSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { KEY_FILE, PREVIOUS_KEY_FILE } from "../config/settings/audit.ts";
import { json } from "./printable.ts";
import type { Cli } from "./run.ts";

export function addRotateCommand(keys: Command, cli: Cli): void {
  const { io } = cli;
  const rotate = keys
    .command("rotate")
    .description(
      "make a new key in the data folder and keep the old one to sign it; servers take it up when they start",
    )
    .option("--data-dir <folder>", "the data folder of the server (SIGNALBOX_DATA_DIR)")
    .option("--json", "print JSON for programs");
  rotate.action((flags: { dataDir?: string; json?: boolean }) => {
    const sources = { ...(io.env && { env: io.env }), ...(io.cwd !== undefined && { cwd: io.cwd }) };
    const config = loadConfig({ flags: flags.dataDir === undefined ? {} : { "data.dir": flags.dataDir }, ...sources });
    if (config.audit.key !== undefined) {
      return rotate.error(
        "error: the key is given by audit.key: set audit.previous-key to it, and audit.key to a new one.",
      );
    }
    const path = join(config.data.dir, KEY_FILE);
    const previous = join(config.data.dir, PREVIOUS_KEY_FILE);
    if (!existsSync(path)) return rotate.error(`error: there is no key in ${path} yet: a server makes the first.`);
    if (existsSync(previous)) {
      return rotate.error(
        `error: ${previous} is there: the last change is not over. Remove it once nobody needs the old key.`,
      );
    }
    // There is no moment without a key. What an attempt has left that was broken off is nobody's.
    const made = `${path}.new`;
    const pem = generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" });
    writeFileSync(made, pem, { mode: 0o600, flush: true });
    // A second name for the old key, and not a copy, which a power cut could leave empty.
    linkSync(path, previous);
    renameSync(made, path);
    if (flags.json) return io.out(json({ key: path, previous }));
    io.out(
      `The new key is ${path}, the one before it ${previous}.\n` +
        "Start the server again: the old key signs the new one, and both sign checkpoints until the old file is removed.\n",
    );
  });
}
