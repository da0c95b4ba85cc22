/**
 * PGlite, PostgreSQL inside this process, as Database: the data directory is the whole installation. It survives a
 * killed process but not a power cut, because it never calls fsync.
 */
import { join } from "node:path";
import { Duplex } from "node:stream";
import { Worker } from "node:worker_threads";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";
import type { Database } from "./database.ts";
import { lockDirectory } from "./directory-lock.ts";
import { createPgDatabase } from "./pg-database.ts";
import type { FromWorker, ToWorker } from "./pglite-worker.ts";

/** How long a caller waits for the one connection before it is told that the database does not answer. */
const TURN_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 10_000;

export interface PgliteOptions {
  /** Made when missing. One process at a time can have it. */
  dataDir: string;
  log: Logger;
}

/** Rejects with SignalboxError when the directory is taken or unusable, or when the database in it does not start. */
export async function openPglite({ dataDir, log }: PgliteOptions): Promise<Database> {
  const lock = lockDirectory(dataDir);
  try {
    const worker = await startWorker(join(dataDir, "pglite"), log);
    return createPgDatabase({
      backend: "pglite",
      log,
      // One connection, kept for ever: PGlite has a single session.
      pool: {
        max: 1,
        idleTimeoutMillis: 0,
        connectionTimeoutMillis: TURN_TIMEOUT_MS,
        user: "postgres",
        database: "postgres",
        password: "",
        ssl: false,
        stream: () => worker.connect() as never,
      },
      onClose: async () => {
        await worker.close();
        lock.release();
      },
    });
  } catch (error) {
    lock.release();
    throw error;
  }
}

interface PgliteWorker {
  /** A socket to the database. The one before must be done with. */
  connect(): Duplex;
  /** Lets PGlite write what it holds, then ends the thread. */
  close(): Promise<void>;
}

async function startWorker(dataDir: string, log: Logger): Promise<PgliteWorker> {
  // This module runs as it is, and emitted as JavaScript; so does the worker's.
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  const worker = new Worker(new URL(`./pglite-worker.${extension}`, import.meta.url), {
    workerData: { dataDir },
    // Not this process's own flags: what suits it, such as --input-type, need not suit a thread.
    execArgv: [],
  });
  const tell = (message: ToWorker, transfer: ArrayBuffer[] = []) => worker.postMessage(message, transfer);

  const ready = Promise.withResolvers<void>();
  const exited = Promise.withResolvers<void>();
  let failure: unknown;
  let closing = false;
  let dead = false;
  let socket: WorkerSocket | undefined;

  worker.on("message", (message: FromWorker) => {
    if (message.kind === "ready") ready.resolve();
    else if (message.connection === socket?.connection) socket.push(Buffer.from(message.bytes.buffer));
  });
  worker.on("error", (error) => {
    failure = error;
  });
  worker.on("exit", () => {
    dead = true;
    ready.reject(failure ?? new Error("PGlite ended while it started"));
    if (!closing) {
      log.fatal(
        { err: failure, dataDir },
        "PGlite has died; the database is unavailable until the process starts again",
      );
    }
    socket?.destroy(closing ? undefined : connectionLost());
    exited.resolve();
  });
  const connectionLost = () => new Error("Connection terminated: PGlite has died", { cause: failure });

  try {
    await ready.promise;
  } catch (error) {
    throw new SignalboxError({
      code: "FAILED_PRECONDITION",
      reason: "DATA_DIRECTORY_UNUSABLE",
      message:
        `PGlite cannot open the database in ${dataDir}: ${error instanceof Error ? error.message : String(error)}. ` +
        `Restore it from a copy, or choose another directory with --data-dir (SIGNALBOX_DATA_DIR).`,
      cause: error,
    });
  }

  let connections = 0;
  return {
    connect() {
      connections += 1;
      const connection = connections;
      socket = new WorkerSocket(connection, (bytes) => tell({ kind: "data", connection, bytes }, [bytes.buffer]));
      if (dead) socket.destroy(connectionLost());
      return socket;
    },
    async close() {
      closing = true;
      tell({ kind: "close" });
      const timer = setTimeout(() => worker.terminate(), CLOSE_TIMEOUT_MS);
      await exited.promise;
      clearTimeout(timer);
    },
  };
}

/** What node-postgres takes for a TCP socket: a stream of bytes to the thread and back. */
class WorkerSocket extends Duplex {
  readonly connection: number;
  readonly #send: (bytes: Uint8Array<ArrayBuffer>) => void;

  constructor(connection: number, send: (bytes: Uint8Array<ArrayBuffer>) => void) {
    super({ allowHalfOpen: false });
    this.connection = connection;
    this.#send = send;
  }

  connect(): this {
    queueMicrotask(() => this.emit("connect"));
    return this;
  }

  // node-postgres corks the parts of a statement, so a statement comes here whole.
  override _writev(chunks: { chunk: Buffer }[], done: () => void): void {
    this.#sendAll(chunks.map(({ chunk }) => chunk));
    done();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#sendAll([chunk]);
    done();
  }

  #sendAll(chunks: Buffer[]): void {
    // A copy, because the thread gets the memory itself, and these buffers share theirs with others.
    const bytes = new Uint8Array(chunks.reduce((size, chunk) => size + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    // Terminate, the letter X, ends the connection; it asks for no answer.
    if (bytes[0] !== 0x58) this.#send(bytes);
  }

  override _read(): void {}

  override _final(done: () => void): void {
    this.push(null);
    done();
  }

  // What a TCP socket has besides.
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}
