/** What can be wrong with a checkpoint, beside the log that it is of. Pure. */
import { isSignedBy, keysAfter, type Note, readNote, readVerifierKey, verifierKey } from "./checkpoint.ts";
import type { Seal } from "./export.ts";
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

type SealKey = Seal["keys"][number];

/** A key that is believed. */
export interface TrustedKey {
  publicKey: Uint8Array;
  /** The log that it was given out for; undefined: any. */
  name?: string | undefined;
}

/** A log that has not the size that it had. */
export function sizeFault(size: number, wanted: number): Fault | undefined {
  if (size < wanted) return logFault("TRUNCATED", size, `The log ends after ${size} entries; it had ${wanted}.`);
  if (size > wanted) return logFault("INSERTED", wanted, `The log goes on after its ${wanted} entries.`);
  return undefined;
}

/** A checkpoint that is not signed by the key that is believed, or by one that followed it. */
export function signatureFault(
  checkpoint: Note,
  { keys, keyOrigin, end }: { keys: readonly SealKey[]; keyOrigin: string; end: number },
  trusted?: TrustedKey,
): Fault | undefined {
  const { origin } = checkpoint;
  const wrong = (why: string) => logFault("SIGNATURE", end, `The checkpoint ${why}.`);
  if (trusted?.name !== undefined && trusted.name !== origin)
    return wrong(`is of the log ${origin}, not ${trusted.name}`);
  if (!origin.startsWith(`${keyOrigin}/`)) return wrong(`is of the log ${origin}, its keys are of ${keyOrigin}`);
  const known = keysIn(keys);
  const believed = trusted
    ? [trusted.publicKey, ...keysAfter(trusted.publicKey, known, keyOrigin)]
    : known.map(({ publicKey }) => publicKey);
  if (isSignedByAny(checkpoint, believed)) return undefined;
  return wrong(
    trusted ? "is not signed by the key that was given, or one that followed it" : "is not signed by its own keys",
  );
}

const keysIn = (keys: readonly SealKey[]) =>
  keys.flatMap(({ verifierKey: text, signedByPrevious }) => {
    const key = readVerifierKey(text);
    return key ? { publicKey: key.publicKey, signedByPrevious } : [];
  });

const isSignedByAny = (note: Note, publicKeys: readonly Uint8Array[]): boolean =>
  publicKeys.some((publicKey) => isSignedBy(note, verifierKey(note.origin, publicKey)));

/** What was read of a log: the entries from `start` up to `size`, and its last checkpoint. */
interface ReadLog {
  start: number;
  size: number;
  checkpoint: Note;
  seal: Seal;
  trusted: TrustedKey | undefined;
}

/** A log that does not begin with a checkpoint that was kept; `rootThen` is the root that it had at that size, if that was seen. */
export function pinnedFault(kept: { pinned: Note; rootThen: Uint8Array | undefined }, log: ReadLog): Fault | undefined {
  const { pinned } = kept;
  const { seal, trusted, size } = log;
  const fault = beginFault(kept, log);
  const signers = [...(trusted ? [trusted.publicKey] : []), ...keysIn(seal.keys).map(({ publicKey }) => publicKey)];
  if (!fault || isSignedByAny(pinned, signers)) return fault;
  const description = "The checkpoint that was kept is not signed by a key of this log: its file was changed.";
  return logFault("SIGNATURE", size, description);
}

function beginFault(
  { pinned, rootThen }: { pinned: Note; rootThen: Uint8Array | undefined },
  { start, size, checkpoint }: ReadLog,
): Fault | undefined {
  if (pinned.origin !== checkpoint.origin) {
    const description = `The checkpoint that was kept is of the log ${pinned.origin}, not of this one.`;
    return logFault("SIGNATURE", size, description);
  }
  if (pinned.size < start) {
    return logFault("TREE", start, `The log is here from ${start} on only, which does not show what it was before.`);
  }
  if (pinned.size > size && pinned.size <= checkpoint.size) {
    const description = `The log is here up to ${size} only, which does not show the checkpoint that was kept.`;
    return logFault("TREE", size, description);
  }
  if (pinned.size > size) {
    return logFault("TRUNCATED", size, `The log had ${pinned.size} entries already, and has ${size} now.`);
  }
  if (rootThen && Buffer.compare(rootThen, pinned.root) === 0) return undefined;
  return logFault("TREE", start, `The first ${pinned.size} entries are not those that were signed at that size.`);
}
