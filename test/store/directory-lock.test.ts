import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { lockDirectory } from "../../src/store/directory-lock.ts";
import { temporaryDirectory } from "./backends.ts";

const MODULE = new URL("../../src/store/directory-lock.ts", import.meta.url).href;

let parent: string;
let directory: string;
beforeEach(async () => {
  parent = await temporaryDirectory();
  directory = join(parent, "deep", "data");
  onTestFinished(() => rm(parent, { recursive: true }));
});

test("a directory is made for its owner alone, and has one holder", async () => {
  const lock = lockDirectory(directory);
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect(() => lockDirectory(directory)).toThrow(
    expect.objectContaining({
      reason: "DATA_DIRECTORY_LOCKED",
      message: expect.stringContaining(`${directory} is in use by process ${process.pid}.`),
    }),
  );
  lock.release();
  lockDirectory(directory).release();
});

test("another process keeps it from us, until it is killed", async () => {
  const holder = await holdInAnotherProcess();
  expect(() => lockDirectory(directory)).toThrow(`in use by process ${holder.pid}. Stop that process`);
  // A name that is not there yet must not hide the lock.
  await rm(join(directory, "lock.pid"));
  expect(() => lockDirectory(directory)).toThrow("in use by another process. Stop that process");

  holder.kill("SIGKILL");
  await once(holder, "close");
  lockDirectory(directory).release();
});

test("what cannot be a directory is told", async () => {
  await writeFile(join(parent, "file"), "");
  expect(() => lockDirectory(join(parent, "file"))).toThrow(
    expect.objectContaining({ reason: "DATA_DIRECTORY_UNUSABLE", message: expect.stringContaining("--data-dir") }),
  );
  expect(() => lockDirectory(join(parent, "file", "data"))).toThrow(
    expect.objectContaining({ reason: "DATA_DIRECTORY_UNUSABLE" }),
  );
});

// Root may write everywhere, so as root this asks a process that is not.
test("what cannot be written is told", async () => {
  await chmod(parent, 0o755);
  const identity = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  if (process.getuid?.() !== 0) await chmod(parent, 0o555);
  const child = spawn(process.execPath, ["-e", `import("${MODULE}").then((m) => m.lockDirectory("${directory}"))`], {
    ...identity,
    stdio: ["ignore", "inherit", "pipe"],
  });
  let complaint = "";
  child.stderr?.on("data", (text) => {
    complaint += text;
  });
  const [code] = await once(child, "close");
  await chmod(parent, 0o755);
  expect(code).toBe(1);
  expect(complaint).toContain(`The data directory ${directory} cannot be used: EACCES`);
});

async function holdInAnotherProcess(): Promise<ChildProcess> {
  const code = `import("${MODULE}").then((m) => {
    globalThis.lock = m.lockDirectory("${directory}");
    console.log("locked");
    process.stdin.resume();
  })`;
  const child = spawn(process.execPath, ["-e", code], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child.stdout!, "data");
  return child;
}
