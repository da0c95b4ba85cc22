/** What an agent of the fault suite writes down before it acts on it, so that its death does not take it along. */
import { existsSync, openSync, readFileSync, writeSync } from "node:fs";

/**
 * - `got`: a message arrived, whatever became of it.
 * - `began`: the agent has made a task of it.
 * - `canceled`: it was told to cancel a task.
 * - `ended`: it has said the last of a task.
 */
export type JournalKind = "got" | "began" | "canceled" | "ended";

export interface JournalEntry {
  kind: JournalKind;
  /** Milliseconds since 1970, by the clock of this machine. */
  at: number;
  /** The agent's own id of its task; empty for a message that begins one. */
  taskId: string;
  /** For `got` and `began`. */
  messageId?: string;
}

export interface Journal {
  write(entry: Omit<JournalEntry, "at">): void;
}

export function openJournal(file: string): Journal {
  const fd = openSync(file, "a");
  return { write: (entry) => void writeSync(fd, `${JSON.stringify({ ...entry, at: Date.now() })}\n`) };
}

/** The entries of a journal, oldest first. */
export function readJournal(file: string): JournalEntry[] {
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as JournalEntry);
}
