/**
 * A thread that reads one policy document. What it says is plain data, so that it can leave the thread; it does so piece by
 * piece, each when it is asked for, because whoever takes it in is busy with it meanwhile.
 */
import { parentPort, workerData } from "node:worker_threads";
import type { PolicyRule } from "../domain/policy/document.ts";
import { readPolicy } from "../domain/policy/read.ts";

/** What the thread is given. */
export interface DocumentToRead {
  readonly text: string;
  readonly file: string | undefined;
}

/** What it tells: some of the rules, and in the end the rest, without rules. */
export type ReadPiece = { readonly rules: readonly PolicyRule[] } | { readonly read: ReturnType<typeof readPolicy> };

/** Rules of one piece. */
const PIECE = 500;

const { text, file } = workerData as DocumentToRead;
const port = parentPort!;
const read = readPolicy(text, file);
const rules = "document" in read ? read.document.rules : [];
let sent = 0;

function send(): void {
  if (sent < rules.length) {
    const piece: ReadPiece = { rules: rules.slice(sent, sent + PIECE) };
    sent += PIECE;
    port.postMessage(piece);
    return;
  }
  const piece: ReadPiece = { read: "document" in read ? { document: { ...read.document, rules: [] } } : read };
  port.postMessage(piece);
}

port.on("message", send);
send();
