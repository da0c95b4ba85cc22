/** `signalbox audit`, against a running server and against files. */
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { create, toBinary } from "@bufbuild/protobuf";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { ProveInclusionRequestSchema } from "../../gen/signalbox/v1/audit_pb.ts";
import { startApp } from "../../src/app.ts";
import { loadConfig } from "../../src/config/load.ts";
import { act } from "../conformance/scripted-agent.ts";
import { pgliteDirectory } from "../setup/pglite-template.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
/** Entries in the log, once all that the tests have done is in it. */
let size = 0;

beforeAll(async () => {
  app = await startTestApp({
    backend: "pglite",
    agents: { tour: act },
    flags: { "audit.origin": "example.com/audit" },
  });
  for (let i = 0; i < 3; i++) await signalbox("send", "--agent", "tour", "complete");
  size = await whole();
  return () => app.stop();
});

/** Runs a command in this process, with a terminal of its own. */
const signalbox = (...args: string[]) => signalboxAt(app.httpUrl, ...args);
const signalboxAt = (server: string, ...args: string[]) =>
  runCommand(server, args, { env: { SIGNALBOX_DATA_DIR: app.dataDir }, cwd: app.dataDir });

/** The size of the log once every entry is in it. */
async function whole(): Promise<number> {
  for (;;) {
    const { out } = await signalbox("audit", "list", "--limit", "1000", "--json");
    const entries: { index?: string }[] = JSON.parse(out).entries;
    if (entries.length > 0 && entries.every(({ index }) => index !== undefined)) return entries.length;
  }
}

async function exported(): Promise<string> {
  const path = join(app.dataDir, "export.jsonl");
  expect(await signalbox("audit", "export", path)).toMatchObject({ code: 0, err: "" });
  return path;
}

async function publicKey(): Promise<string> {
  const { keys } = JSON.parse((await signalbox("audit", "keys", "--json")).out);
  return keys[0].verifierKey;
}

test("audit list shows what was done, the latest first", async () => {
  const { code, out } = await signalbox("audit", "list", "--limit", "3");
  expect(code).toBe(0);
  const [head, first] = out.split("\n");
  expect(head).toMatch(/^INDEX +TIME +ACTOR +ACTION +TARGET +TASK +RESULT +DETAIL$/);
  expect(first).toMatch(new RegExp(`^${size - 1} +20`));
  const all = JSON.parse((await signalbox("audit", "list", "--json", "--limit", "1000")).out).entries;
  expect(all.map(({ index }: { index: string }) => Number(index))).toEqual(
    Array.from({ length: size }, (_, i) => size - 1 - i),
  );
  const { taskId } = all.find((entry: { taskId?: string }) => entry.taskId);
  const own = JSON.parse((await signalbox("audit", "list", "--task", taskId, "--json")).out).entries;
  expect(own.length).toBeGreaterThan(1);
  expect(new Set(own.map((entry: { taskId: string }) => entry.taskId))).toEqual(new Set([taskId]));
  expect((await signalbox("audit", "list", "--actor", "nobody")).out).toBe("No entries.\n");
  expect((await signalbox("audit", "list", "--since", "2999-01-01")).out).toBe("No entries.\n");
  // Chains are folded in one order, whatever the time of their entries.
  const [last] = all.map(({ time }: { time: string }) => time).sort((a: string, b: string) => (a < b ? 1 : -1));
  expect((await signalbox("audit", "list", "--until", last, "--limit", "1")).out).toMatch(/OK +\{/);
});

test("audit verify checks the server's log with the public key, and a file without the server", async () => {
  const key = await publicKey();
  const online = await signalbox("audit", "verify", "--key", key);
  expect(online).toMatchObject({ code: 0, err: "" });
  expect(online.out).toMatch(
    new RegExp(`^Intact +yes\nEntries +${size}\nLog +example\\.com/audit/default, ${size} entries\n$`),
  );
  const path = await exported();
  expect(await signalbox("audit", "verify", path, "--key", key)).toMatchObject({ code: 0, err: "", out: online.out });
  const keyFile = join(app.dataDir, "key.pub");
  writeFileSync(keyFile, `${key}\n`);
  expect((await signalbox("audit", "verify", path, "--key", keyFile, "--json")).out).toContain('"intact": true');
  expect((await signalbox("audit", "verify", path)).err).toContain("Give --key");
});

test("audit verify says what was done to a file, and fails", async () => {
  const key = await publicKey();
  const lines = readFileSync(await exported(), "utf8").split("\n");
  const damaged = async (changed: string[]) => {
    const path = join(app.dataDir, "damaged.jsonl");
    writeFileSync(path, changed.join("\n"));
    return signalbox("audit", "verify", path, "--key", key);
  };
  const edited = await damaged(lines.with(2, lines[2]!.replace('"result":"OK"', '"result":"NO"')));
  expect(edited.code).toBe(1);
  expect(edited.out).toMatch(
    /^Intact +NO\n[\s\S]*What was done +edited, at entry 2\n +Entry 2 \(\d+ of chain \S+\) was edited/,
  );
  expect((await damaged(lines.toSpliced(3, 1))).out).toContain("removed, at entry 3");
  expect((await damaged(lines.toSpliced(3, 0, lines[1]!))).out).toContain("inserted, at entry 3");
  expect((await damaged(lines.with(1, lines[4]!).with(4, lines[1]!))).out).toContain("reordered, at entry 1");
  expect((await damaged(lines.slice(0, 4))).out).toContain("truncated, at entry");
  const other = `${"A".repeat(43)}=`;
  const wrong = await signalbox("audit", "verify", join(app.dataDir, "export.jsonl"), "--key", other);
  expect(wrong).toMatchObject({ code: 1, out: expect.stringContaining("signature, at entry") });
});

test("audit checkpoint is what a later log must begin with, and prove shows an entry in it", async () => {
  const checkpoint = await signalbox("audit", "checkpoint");
  expect(checkpoint.out).toMatch(
    new RegExp(`^example\\.com/audit/default\n${size}\n[^\n]{44}\n\n— example\\.com/audit/default [^\n]+\n$`),
  );
  const kept = join(app.dataDir, "kept.txt");
  writeFileSync(kept, checkpoint.out);
  await signalbox("send", "--agent", "tour", "complete");
  size = await whole();
  const key = await publicKey();
  const pinned = ["--key", key, "--checkpoint", kept];
  expect(await signalbox("audit", "verify", ...pinned)).toMatchObject({ code: 0, err: "" });
  const edited = join(app.dataDir, "edited.txt");
  writeFileSync(edited, checkpoint.out.replace(/\n\d+\n/, "\n999999\n"));
  expect(await signalbox("audit", "verify", "--key", key, "--checkpoint", edited)).toMatchObject({
    code: 1,
    out: expect.stringContaining("The checkpoint that was kept is not signed by a key of this log"),
  });
  const part = join(app.dataDir, "part.jsonl");
  await signalbox("audit", "export", part, "--start", "2", "--end", "5");
  expect((await signalbox("audit", "verify", part, "--key", key)).out).toMatch(/^Intact +yes\nEntries +3\n/);
  const proven = await signalbox("audit", "prove", "1", "--key", key);
  expect(proven).toMatchObject({ code: 0, err: "" });
  expect(proven.out).toMatch(new RegExp(`^Entry +1 of ${size}\nHash +[0-9a-f]{64}\nProof [\\s\\S]+\nProven +yes`));
  const hash = /Hash +(\S+)/.exec(proven.out)![1]!;
  expect((await signalbox("audit", "prove", hash, "--key", key)).out).toBe(proven.out);
  expect((await signalbox("audit", "prove", hash)).err).toContain("Give --key");
  const other = `${"A".repeat(43)}=`;
  expect(await signalbox("audit", "prove", hash, "--key", other)).toMatchObject({
    code: 1,
    out: expect.stringContaining("NO: The checkpoint is not signed by the key that was given"),
  });
  expect(await signalbox("audit", "prove", "100000")).toMatchObject({
    code: 1,
    err: expect.stringContaining("NOT_IN_LOG_YET"),
  });
  expect(await signalbox("audit", "checkpoint", "--size", "999999")).toMatchObject({
    code: 1,
    err: expect.stringContaining("CHECKPOINT_NOT_FOUND"),
  });
});

test("audit prove does not believe a server that proves another entry", async () => {
  const entries = JSON.parse((await signalbox("audit", "list", "--json", "--limit", "1000")).out).entries;
  const { hash } = entries.find(({ index }: { index: string }) => index === "1");
  const liar = createServer(async (request, response) => {
    const body = request.url!.endsWith("/ProveInclusion")
      ? toBinary(ProveInclusionRequestSchema, create(ProveInclusionRequestSchema, { index: 2n }))
      : await buffer(request);
    const headers = { "content-type": request.headers["content-type"]!, "connect-protocol-version": "1" };
    const answer = await fetch(`${app.httpUrl}${request.url}`, { method: "POST", headers, body });
    response.setHeader("content-type", answer.headers.get("content-type")!);
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise<void>((listening) => liar.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${(liar.address() as AddressInfo).port}`;
  for (const asked of [hash, "1"]) {
    const { code, out } = await signalboxAt(url, "audit", "prove", asked);
    expect({ code, out }).toMatchObject({ code: 1, out: expect.stringContaining("NO: the server has proven another") });
  }
  expect(await signalboxAt(url, "audit", "prove", "2")).toMatchObject({ code: 0 });
  liar.closeAllConnections();
  await new Promise((closed) => liar.close(closed));
});

test.each([
  [["prove", "first"], "named by its index or its hash"],
  [["verify", "gone.jsonl"], "gone.jsonl does not exist"],
  [["verify", "--key", "no"], "nor the path of a file that exists"],
  [["prove", "1", "--key", "package.json"], "--key takes a key"],
  [["verify", "--checkpoint", "package.json"], "holds no signed checkpoint"],
  [["list", "--limit", "0"], "It is 1 or more"],
  [["list", "--since", "yesterday"], "2026-01-31T12:00:00Z"],
])("wrong use: audit %s", async (args, told) => {
  const { code, out, err } = await signalbox("audit", ...args);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(err).toContain(told);
});

test("audit keys rotate makes a key that the next start takes up, signed by the one before it", async () => {
  const dataDir = await pgliteDirectory();
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const settings = { "http.port": "0", "grpc.port": "0", "data.dir": dataDir, "log.level": "silent" };
  /** What the command says while a server runs on the folder. */
  const keysOf = async () => {
    const server = await startApp(loadConfig({ flags: settings, env: {}, cwd: dataDir }));
    const { out } = await signalboxAt(server.httpUrl, "audit", "keys", "--json");
    await server.drain();
    return JSON.parse(out).keys;
  };
  const [first] = await keysOf();
  const path = join(dataDir, "audit-key.pem");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const before = readFileSync(path, "utf8");
  const rotate = () => signalbox("audit", "keys", "rotate", "--data-dir", dataDir);
  expect(await rotate()).toMatchObject({ code: 0, err: "" });
  expect(readFileSync(join(dataDir, "audit-key.previous.pem"), "utf8")).toBe(before);
  expect(readFileSync(path, "utf8")).not.toBe(before);
  expect(await rotate()).toMatchObject({ code: 2, err: expect.stringContaining("not over") });
  expect(existsSync(`${path}.new`)).toBe(false);
  expect(await keysOf()).toMatchObject([
    { verifierKey: first.verifierKey },
    { active: true, signedByPrevious: expect.stringMatching(/^[A-Za-z0-9+/]{86}==$/) },
  ]);
});
