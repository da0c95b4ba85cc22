/**
 * What it costs to verify an exported log of a million entries, beside hashing the same lines and nothing else; and what a proof of
 * inclusion costs in a tree of as many.
 */
import { createPrivateKey, hash, randomBytes } from "node:crypto";
import {
  originOf,
  publicBytes,
  signCheckpoint,
  verifierKey,
  writeVerifierKey,
} from "../../src/domain/audit/checkpoint.ts";
import { auditBody, auditLine, lineHash, NO_HASH } from "../../src/domain/audit/entry.ts";
import { orderLine, type Span, sealLine } from "../../src/domain/audit/export.ts";
import { isIncluded } from "../../src/domain/audit/proofs.ts";
import { edgeOf, grow, hashesOf, planInclusion, type Tile, tilesOf } from "../../src/domain/audit/tiles.ts";
import { createLogVerifier } from "../../src/domain/audit/verify.ts";
import type { Findings } from "../lab/lab.ts";
import { atLeast, below, median } from "../lab/report.ts";

const ENTRIES = 1_000_000;
/** Entries of one chain that stand together: what a replica writes in a second or so. */
const SPAN = 1_000;
const CHAINS = ["replica-1/a", "replica-1/s", "replica-2/a", "replica-2/s"];
const CHUNK_BYTES = 256 * 1024;
const PROOFS = 1_000;
/** Each is measured as often, in turn; the best counts: what else the machine does only makes one slower. */
const ROUNDS = 5;
const ORIGIN = "bench.example/audit";

export async function verification(signal: AbortSignal): Promise<Findings> {
  const { file, ends, tiles, root, publicKey } = makeLog();
  signal.throwIfAborted();
  const kinds = {
    verified: () => verify(file, publicKey),
    byLine: () => hashLines(file, ends),
    streaming: () => void hash("sha256", file),
  };
  const best = { verified: Infinity, byLine: Infinity, streaming: Infinity };
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of ["byLine", "verified", "streaming"] as const) {
      signal.throwIfAborted();
      best[name] = Math.min(best[name], cpuMs(kinds[name]));
    }
  }
  const proofMs = proofTimes(tiles, root);
  const rate = (ms: number) => `${(file.length / 1e3 / ms).toFixed(0)} MB/s`;
  return {
    goals: [
      atLeast("verification of 1,000,000 entries / SHA-256 of the same lines", best.byLine / best.verified, 0.5, "x"),
      below("inclusion proof in 1,000,000 entries, without the database, median", median(proofMs), 5, "ms", 3),
    ],
    figures: [
      ["verification of an export", `${rate(best.verified)}, ${best.verified.toFixed(0)} ms of CPU`],
      ["SHA-256 of each line, a call each", `${rate(best.byLine)}, ${best.byLine.toFixed(0)} ms of CPU`],
      ["SHA-256 of the whole file in one call, which makes no chain and no tree", rate(best.streaming)],
      ["inclusion proof", `median ${median(proofMs).toFixed(3)} ms, longest ${Math.max(...proofMs).toFixed(1)} ms`],
      ["export", `${ENTRIES} entries, ${(file.length / 1e6).toFixed(0)} MB, ${CHAINS.length} chains`],
    ],
  };
}

function verify(file: Buffer, publicKey: Uint8Array): void {
  const verifier = createLogVerifier({ trusted: { publicKey } });
  for (let at = 0; at < file.length; at += CHUNK_BYTES) verifier.feed(file.subarray(at, at + CHUNK_BYTES));
  const { intact, entries } = verifier.end();
  if (!intact || entries !== ENTRIES) throw new Error("the log that was made is not intact");
}

/** What no verifier can leave out. The ends of the lines are known beforehand, and nothing is kept. */
function hashLines(file: Buffer, ends: Uint32Array): void {
  let start = 0;
  for (const end of ends) {
    hash("sha256", new Uint8Array(file.buffer, file.byteOffset + start, end - start), "binary");
    start = end + 1;
  }
}

/** Of this process, so that what else the machine does counts less. */
function cpuMs(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

function proofTimes(tiles: ReadonlyMap<string, Tile>, root: Uint8Array): number[] {
  return Array.from({ length: PROOFS }, (_, i) => {
    const index = Math.floor((ENTRIES * i) / PROOFS);
    const started = performance.now();
    const plan = planInclusion(index, ENTRIES);
    const found = tilesOf(plan).map(({ level, index: at }) => tiles.get(`${level}/${at}`)!);
    const proof = hashesOf(plan, found);
    const took = performance.now() - started;
    const leaf = tiles
      .get(`0/${Math.floor(index / 256)}`)!
      .hashes.subarray((index % 256) * 32, (index % 256) * 32 + 32);
    if (!isIncluded(leaf, { index, size: ENTRIES, proof, root })) throw new Error("a proof is wrong");
    return took;
  });
}

function makeLog() {
  const seed = randomBytes(32);
  const der = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const parts: Buffer[] = [];
  const ends = new Uint32Array(ENTRIES);
  const tiles = new Map<string, Tile>();
  const spans: Span[] = [];
  const heads = new Map<string, { number: number; hash: string }>();
  let bytes = 0;
  let size = 0;
  let root: Uint8Array = new Uint8Array();
  while (size < ENTRIES) {
    const chainId = CHAINS[(size / SPAN) % CHAINS.length]!;
    const head = heads.get(chainId) ?? { number: 0, hash: NO_HASH };
    heads.set(chainId, head);
    const hashes: Buffer[] = [];
    for (let i = 0; i < SPAN; i++) {
      head.number += 1;
      const line = auditLine(chainId, head.number, head.hash, bodyOf(size + i));
      const leaf = lineHash(line);
      head.hash = leaf.toString("hex");
      hashes.push(leaf);
      const part = Buffer.from(`${line}\n`);
      parts.push(part);
      bytes += part.length;
      ends[size + i] = bytes - 1;
    }
    spans.push({ chainId, firstNumber: head.number - SPAN + 1, count: SPAN, lastHash: hashes.at(-1)! });
    const edge = edgeOf(size).map(({ level, index }) => tiles.get(`${level}/${index}`)!);
    const grown = grow(size, edge, hashes);
    for (const tile of grown.tiles) tiles.set(`${tile.level}/${tile.index}`, tile);
    size = grown.size;
    root = grown.root;
  }
  const origin = originOf(ORIGIN, "default");
  const publicKey = publicBytes(key);
  const keys = [{ verifierKey: writeVerifierKey(verifierKey(origin, publicKey)), signedByPrevious: undefined }];
  const checkpoint = signCheckpoint({ origin, size, root }, [key]);
  const seal = sealLine({ checkpoint, end: size, consistency: [], keys, keyOrigin: ORIGIN });
  parts.push(Buffer.from(`${orderLine(spans)}\n${seal}\n`));
  return { file: Buffer.concat(parts), ends, tiles, root, publicKey };
}

/** As long as an entry of a task is. */
const bodyOf = (i: number): string =>
  auditBody({
    workspaceId: "default",
    at: new Date(Date.UTC(2026, 0, 1) + i),
    actor: "anonymous",
    action: "task.accept",
    targetType: "task",
    targetId: `019a0000-0000-7000-8000-${i.toString(16).padStart(12, "0")}`,
    taskId: `019a0000-0000-7000-8000-${i.toString(16).padStart(12, "0")}`,
    result: "OK",
    detail: { agent: "translator", capability: "translate", message: "f".repeat(64) },
  });
