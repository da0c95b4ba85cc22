/** Reads policy documents: small ones at once, large ones in a thread of their own, so that no request waits meanwhile. */
import { Worker } from "node:worker_threads";
import { queueFull } from "../domain/errors.ts";
import type { PolicyRule } from "../domain/policy/document.ts";
import { readPolicy } from "../domain/policy/read.ts";
import type { DocumentToRead, ReadPiece } from "./policy-reader-worker.ts";
import type { Runtime } from "./runtime.ts";

/** What was read of a document, or what is wrong with it. */
export type ReadPolicy = ReturnType<typeof readPolicy>;

/** What is not longer is read where it is asked for, in UTF-16 units: some milliseconds of work. */
const MOST_AT_ONCE = 16 * 1024;
/** Documents that wait for the thread at most. */
const MOST_WAITING = 16;
/** Longest time that reading one may take, in milliseconds. */
const LONGEST_MS = 30_000;
/** Memory of a thread at most, in MiB. */
const MOST_MEMORY_MB = 512;

export interface PolicyReader {
  /** Whether reading it takes so long that nobody who has another policy should wait for it. */
  isLarge(text: string): boolean;
  /**
   * Reads a document. `file` is what its problems call it.
   *
   * @throws SignalboxError QUEUE_FULL while as many wait as may.
   */
  read(text: string, file?: string): Promise<ReadPolicy>;
  /** Ends what is being read. */
  close(): Promise<void>;
}

export function createPolicyReader(runtime: Pick<Runtime, "wait">): PolicyReader {
  const ends = new AbortController();
  let waiting = 0;
  let last: Promise<unknown> = Promise.resolve();

  async function readInThread(given: DocumentToRead): Promise<ReadPolicy> {
    ends.signal.throwIfAborted();
    // This module runs as it is, and emitted as JavaScript; so does the worker's.
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./policy-reader-worker.${extension}`, import.meta.url), {
      workerData: given,
      resourceLimits: { maxOldGenerationSizeMb: MOST_MEMORY_MB },
      // Not this process's own flags: what suits it, such as --input-type, need not suit a thread.
      execArgv: [],
    });
    const { promise, resolve, reject } = Promise.withResolvers<ReadPolicy>();
    const rules: PolicyRule[] = [];
    worker.on("message", (piece: ReadPiece) => {
      if ("rules" in piece) {
        rules.push(...piece.rules);
        worker.postMessage("more");
      } else {
        const { read } = piece;
        resolve("document" in read ? { document: { ...read.document, rules } } : read);
      }
    });
    worker.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ERR_WORKER_OUT_OF_MEMORY")
        resolve(unreadable(given, "it needs more memory than one may take"));
      else reject(error);
    });
    const enough = new AbortController();
    const late = runtime.wait(LONGEST_MS, AbortSignal.any([enough.signal, ends.signal])).then(
      () => unreadable(given, `it takes longer than ${LONGEST_MS / 1000} s`),
      (reason: unknown) => (enough.signal.aborted ? promise : Promise.reject(reason)),
    );
    try {
      return await Promise.race([promise, late]);
    } finally {
      enough.abort();
      await worker.terminate();
    }
  }

  const isLarge = (text: string) => text.length > MOST_AT_ONCE;

  return {
    isLarge,
    async read(text, file) {
      if (!isLarge(text)) return readPolicy(text, file);
      if (waiting >= MOST_WAITING) throw queueFull("policy documents");
      waiting += 1;
      const turn = last
        .then(() => readInThread({ text, file }))
        .finally(() => {
          waiting -= 1;
        });
      last = turn.catch(() => {});
      return turn;
    },
    async close() {
      ends.abort(new Error("the server stops"));
      await last;
    },
  };
}

const unreadable = ({ file = "" }: DocumentToRead, why: string): ReadPolicy => ({
  problems: [{ file, line: 0, column: 0, path: "", description: `cannot be read: ${why}; make it smaller` }],
  count: 1,
});
