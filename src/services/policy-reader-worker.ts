/** A thread that reads one policy document. What it says is plain data, so that it can leave the thread. */
import { parentPort, workerData } from "node:worker_threads";
import { readPolicy } from "../domain/policy/read.ts";
import type { DocumentToRead } from "./policy-reader.ts";

const { text, file } = workerData as DocumentToRead;
parentPort!.postMessage(readPolicy(text, file));
