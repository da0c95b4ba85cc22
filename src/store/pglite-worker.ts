/**
 * PGlite in a thread of its own, because it computes without pause: in the server's thread it would starve every socket.
 * The thread is a server of PostgreSQL's protocol for one connection at a time: bytes in, bytes out, in order.
 */
import { parentPort, workerData } from "node:worker_threads";
import { PGlite } from "@electric-sql/pglite";

/** What the thread is told. A connection's number grows; a new one takes the place of the one before. */
export type ToWorker = { kind: "data"; connection: number; bytes: Uint8Array<ArrayBuffer> } | { kind: "close" };

/** What the thread tells. */
export type FromWorker = { kind: "ready" } | { kind: "data"; connection: number; bytes: Uint8Array<ArrayBuffer> };

const port = parentPort!;
const db = await PGlite.create({ dataDir: (workerData as { dataDir: string }).dataDir });
const tell = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

let current = 0;
let turn = Promise.resolve();
port.on("message", (message: ToWorker) => {
  // A failure here rejects, which ends the thread: its owner then knows that the database is gone.
  turn = turn.then(() => (message.kind === "close" ? close() : answer(message.connection, message.bytes)));
});
tell({ kind: "ready" });

async function answer(connection: number, bytes: Uint8Array): Promise<void> {
  if (connection !== current) {
    current = connection;
    await resetSession();
  }
  const reply = await db.execProtocolRaw(bytes).catch((exit: unknown) => {
    // What a WASM module throws when it exits is no Error, and would reach the owner without its words.
    throw new Error(`PGlite has crashed: ${(exit as { message?: string }).message}`);
  });
  // PGlite swallows the exceptions of a WASM module that crashed. What pg sends always asks for ReadyForQuery at the
  // end; where none comes, the module is beyond help.
  if (!endsReady(reply)) throw new Error("PGlite has crashed: it left a statement without an answer");
  const whole = new Uint8Array(reply);
  tell({ kind: "data", connection, bytes: whole }, [whole.buffer]);
}

/** PGlite has one session for its whole life; a new connection must find it as new. */
async function resetSession(): Promise<void> {
  await db.exec("rollback");
  await db.exec("discard all");
  // As on PostgreSQL; see postgres.ts.
  await db.exec("set random_page_cost = 1.1; set enable_hashjoin = off");
}

/** ReadyForQuery is the letter Z, a length of 5 and the transaction's status. */
function endsReady(reply: Uint8Array): boolean {
  const [letter, a, b, c, length] = reply.subarray(-6);
  return letter === 0x5a && a === 0 && b === 0 && c === 0 && length === 5;
}

async function close(): Promise<void> {
  await db.close();
  port.close();
}
