/** What can be wrong with a checkpoint, beside the log that it is of. Pure. */
import { type Note, readNote } from "./checkpoint.ts";
import { type Fault, logFault } from "./fault.ts";

/** A checkpoint as it is stored: the note, and what is told beside it. */
export interface StoredCheckpoint {
  size: number;
  root: Uint8Array;
  note: string;
}

/** What is wrong with a checkpoint of the log of that name, whose tree has this root at that size. */
export function checkpointFault(
  { note, size, root }: StoredCheckpoint,
  treeRoot: Uint8Array,
  name: string,
  isBelieved: (note: Note) => boolean,
): Fault | undefined {
  const parsed = readNote(note);
  const says = (what: string) => `The checkpoint of size ${size} ${what}.`;
  if (parsed?.origin !== name || parsed.size !== size) return logFault("SIGNATURE", size, says("is of another log"));
  if (!isBelieved(parsed)) return logFault("SIGNATURE", size, says("is not signed by a key of this log"));
  const isSame = Buffer.compare(parsed.root, treeRoot) === 0 && Buffer.compare(root, treeRoot) === 0;
  return isSame ? undefined : logFault("TREE", size, says("has not the root of the entries"));
}

/** A log whose checkpoints end before its `entries`; `size` is that of the last one, 0 where there is none. */
export const shrunkFault = (entries: number, size: number): Fault =>
  logFault("TRUNCATED", size, `The log had ${entries} entries, and its last checkpoint is gone.`);
