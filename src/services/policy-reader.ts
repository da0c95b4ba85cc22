/** Reads policy documents: small ones at once, large ones in a thread of their own, so that no request waits meanwhile. */
import { Worker } from "node:worker_threads";
import { queueFull } from "../domain/errors.ts";
import type { PolicyRule } from "../domain/policy/document.ts";
import { readPolicy } from "../domain/policy/read.ts";
import type { DocumentToRead, ReadPiece } from "./policy-reader-worker.ts";
import type { RequestContext } from "./request-context.ts";
import type { Runtime } from "./runtime.ts";

/** What was read of a document, or what is wrong with it. */
export type ReadPolicy = ReturnType<typeof readPolicy>;

/** What is not longer is read where it is asked for, in UTF-16 units: some milliseconds of work. */
const MOST_AT_ONCE = 16 * 1024;
/** Documents that wait for a thread at most, and those of them that are drafts of one workspace, with the one that is read. */
const MOST_WAITING = 16;
const MOST_DRAFTS = 4;
/** Longest time that reading one may take, in milliseconds. */
const LONGEST_MS = 30_000;
/** Memory of a thread at most, in MiB. */
const MOST_MEMORY_MB = 512;

export interface PolicyReader {
  /** Whether reading it takes so long that nobody who has another policy should wait for it. */
  isLarge(text: string): boolean;
  /**
   * Reads a document that is to hold. `file` is what its problems call it.
   *
   * @throws SignalboxError QUEUE_FULL while as many wait as may.
   */
  read(text: string, file?: string): Promise<ReadPolicy>;
  /**
   * Reads a document that somebody tries, or wants to put. Those that are to hold do not wait for it. Rejects once the signal is
   * aborted.
   *
   * @throws SignalboxError QUEUE_FULL while as many wait as may, of all or of the workspace.
   */
  draft(text: string, context: Pick<RequestContext, "workspaceId" | "signal">): Promise<ReadPolicy>;
  /** Ends what is being read. */
  close(): Promise<void>;
}

export function createPolicyReader(runtime: Pick<Runtime, "wait">): PolicyReader {
  const ends = new AbortController();
  const [toHold, drafts] = [createLine(), createLine()];
  const draftsOf = new Map<string, number>();
  const open = new Set<Promise<ReadPolicy>>();

  async function readInThread(given: DocumentToRead, signal: AbortSignal): Promise<ReadPolicy> {
    signal.throwIfAborted();
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
    const late = runtime.wait(LONGEST_MS, AbortSignal.any([enough.signal, signal])).then(
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

  // What an anchor stands for can be there thousands of times.
  const isLarge = (text: string) => text.length > MOST_AT_ONCE || text.includes("&");

  async function inLine(line: Line, given: DocumentToRead, signal: AbortSignal): Promise<ReadPolicy> {
    const reading = line(signal, () => readInThread(given, signal));
    open.add(reading);
    try {
      return await reading;
    } finally {
      open.delete(reading);
    }
  }

  return {
    isLarge,
    async read(text, file) {
      return isLarge(text) ? inLine(toHold, { text, file }, ends.signal) : readPolicy(text, file);
    },
    async draft(text, { workspaceId, signal }) {
      if (!isLarge(text)) return readPolicy(text);
      const count = draftsOf.get(workspaceId) ?? 0;
      if (count >= MOST_DRAFTS) throw queueFull(NAME);
      draftsOf.set(workspaceId, count + 1);
      try {
        return await inLine(drafts, { text, file: undefined }, AbortSignal.any([signal, ends.signal]));
      } finally {
        const left = draftsOf.get(workspaceId)! - 1;
        if (left > 0) draftsOf.set(workspaceId, left);
        else draftsOf.delete(workspaceId);
      }
    },
    async close() {
      ends.abort(new Error("the server stops"));
      await Promise.allSettled(open);
    },
  };
}

/** What the queue is called. */
const NAME = "policy documents";

/** Does one thing after another. Who no longer waits leaves its place at once. */
type Line = <T>(signal: AbortSignal, work: () => Promise<T>) => Promise<T>;

function createLine(): Line {
  const waiting: (() => void)[] = [];
  let isBusy = false;

  async function wait(signal: AbortSignal): Promise<void> {
    if (waiting.length >= MOST_WAITING) throw queueFull(NAME);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => {
      const place = waiting.indexOf(resolve);
      if (place >= 0) waiting.splice(place, 1);
      reject(signal.reason);
    };
    waiting.push(resolve);
    signal.addEventListener("abort", leave, { once: true });
    await promise.finally(() => signal.removeEventListener("abort", leave));
  }

  return async (signal, work) => {
    signal.throwIfAborted();
    if (isBusy) await wait(signal);
    isBusy = true;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else isBusy = false;
    }
  };
}

const unreadable = ({ file = "" }: DocumentToRead, why: string): ReadPolicy => ({
  problems: [{ file, line: 0, column: 0, path: "", description: `cannot be read: ${why}; make it smaller` }],
  count: 1,
});
