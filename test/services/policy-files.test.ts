/** The policy files of a server: whole or nothing at the start, and whenever they change. */
import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test } from "vitest";
import { queueFull } from "../../src/domain/errors.ts";
import { startPolicyFiles } from "../../src/services/background/policy-files.ts";
import { policyFolder } from "../../src/services/background/policy-folder.ts";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import { systemRuntime } from "../../src/services/runtime.ts";
import { createInbox } from "../fault/inbox.ts";
import { logLines } from "../store/log-lines.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "signalbox-policy-"));
  return () => rmSync(folder, { recursive: true, force: true });
});

const denying = (agentId: string) => `version: 1\nrules:\n  - effect: DENY\n    when: {agent_id: ${agentId}}\n`;
const digestOf = (text: string) => createHash("sha256").update(text).digest("hex");

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** As editors and deployments do it: another file under the same name. */
function replace(name: string, text: string): void {
  renameSync(file(`${name}.new~`, text), join(folder, name));
}

const usual = createPolicyReader(systemRuntime());

async function start(path: string, pollMs = 3_600_000, reader = usual) {
  const reloads = createInbox<"loaded" | "refused">();
  const runtime = systemRuntime();
  const { log, lines } = logLines();
  const files = await startPolicyFiles({ path, pollMs, reader, runtime, log, onReload: reloads.put });
  onTestFinished(() => files.stop());
  const digests = () => files.held.map(({ digest }) => digest);
  return { files, reloads, lines, digests };
}

test("a file that cannot be used refuses the start, with each mistake and its place", async () => {
  const wrong = "version: 1\nrules:\n  - effect: FORBID\n  - effect: DENY\n    when: {agent: ann}\n";
  await expect(start(file("wrong.yaml", wrong))).rejects.toMatchObject({
    reason: "POLICY_FILES_INVALID",
    message: expect.stringMatching(
      /wrong\.yaml:3:\d+: rules\[0\]\.effect: .*\n +wrong\.yaml:5:\d+: rules\[1\]\.when\.agent: /,
    ),
  });
  const refused = (path: string, why: string) =>
    expect(start(path)).rejects.toMatchObject({ message: expect.stringContaining(why) });
  await refused(join(folder, "gone.yaml"), "gone.yaml: does not exist");
  mkdirSync(join(folder, "empty"));
  await refused(join(folder, "empty"), "holds no policy file");
  writeFileSync(join(folder, "empty", "latin.yaml"), Buffer.from([0x76, 0xe9]));
  await refused(join(folder, "empty"), "latin.yaml: is not UTF-8");
  writeFileSync(join(folder, "empty", "latin.yaml"), Buffer.alloc(5 * 1024 * 1024, 32));
  await refused(join(folder, "empty"), "latin.yaml: is larger than 4 MiB");
});

test("a file is taken over when it is replaced or written, and what is wrong keeps what held before", async () => {
  const path = file("policy.yaml", denying("ann"));
  const { files, reloads, lines, digests } = await start(path);
  expect(files.held).toMatchObject([{ name: "policy.yaml", digest: digestOf(denying("ann")) }]);
  const { held } = files;

  replace("policy.yaml", denying("ben"));
  expect(await reloads.next()).toBe("loaded");
  expect(digests()).toEqual([digestOf(denying("ben"))]);
  expect(held[0]?.digest).toBe(digestOf(denying("ann")));

  replace("policy.yaml", `${denying("ann")}  - effect: PERMIT\n`);
  expect(await reloads.next()).toBe("refused");
  expect(files.problems).toMatchObject([{ file: "policy.yaml", line: 5, path: "rules[1].effect" }]);
  expect(digests()).toEqual([digestOf(denying("ben"))]);
  const told = lines.find(({ msg }) => msg.includes("refused"));
  expect(told).toMatchObject({ file: "policy.yaml", line: 5, rule: "rules[1].effect", problem: expect.any(String) });

  rmSync(path);
  expect(await reloads.next()).toBe("refused");
  expect(files.problems).toMatchObject([{ description: "does not exist" }]);
  expect(digests()).toEqual([digestOf(denying("ben"))]);

  // In place, as a shell does it.
  writeFileSync(path, denying("ann"));
  expect(await reloads.next()).toBe("loaded");
  expect([digests(), files.problems]).toEqual([[digestOf(denying("ann"))], []]);
});

test("a folder is taken over as a whole, also when it is a mounted volume that is swapped by its link", async () => {
  const mount = (name: string, texts: Record<string, string>) => {
    mkdirSync(join(folder, name));
    for (const [each, text] of Object.entries(texts)) file(join(name, each), text);
    symlinkSync(name, join(folder, "..data.new"));
    renameSync(join(folder, "..data.new"), join(folder, "..data"));
  };
  mount("..1", { "a.yaml": denying("ann"), "b.yml": denying("ben") });
  for (const each of ["a.yaml", "b.yml"]) symlinkSync(join("..data", each), join(folder, each));
  file("README.md", "no policy");
  const { files, reloads, digests } = await start(folder);
  expect(files.held.map(({ name }) => name)).toEqual(["a.yaml", "b.yml"]);
  const [unchanged] = files.held;

  mount("..2", { "a.yaml": denying("ann"), "b.yml": "version: 3" });
  expect(await reloads.next()).toBe("refused");
  expect(digests()).toEqual(["ann", "ben"].map((each) => digestOf(denying(each))));

  mount("..3", { "a.yaml": denying("ann"), "b.yml": denying("cid") });
  expect(await reloads.next()).toBe("loaded");
  expect(digests()).toEqual(["ann", "cid"].map((each) => digestOf(denying(each))));
  // What has not changed is not read again, and holds since it did.
  expect(files.held[0]).toBe(unchanged);
});

test("files that never stand still are not taken for what they were at some moment", async () => {
  const path = file("policy.yaml", denying("ann"));
  const { read } = policyFolder(path);
  let isDone = false;
  const reading = read(true).finally(() => {
    isDone = true;
  });
  reading.catch(() => {});
  while (!isDone) {
    appendFileSync(path, "# more\n");
    await new Promise(setImmediate);
  }
  await expect(reading).rejects.toThrow("keeps changing while it is read");
  // What it was is not remembered.
  expect(await read(false)).toMatchObject([{ name: "policy.yaml" }]);
});

test("changes that nobody tells are found by looking", async () => {
  mkdirSync(join(folder, "place"));
  mkdirSync(join(folder, "elsewhere"));
  const target = file("elsewhere/target.yaml", denying("ann"));
  symlinkSync(target, join(folder, "place", "policy.yaml"));
  const { reloads, digests } = await start(join(folder, "place"), 20);
  replace("elsewhere/target.yaml", denying("ben"));
  expect(await reloads.next()).toBe("loaded");
  expect(digests()).toEqual([digestOf(denying("ben"))]);
});

test("a change that could not be read is read again, though nothing has changed since", async () => {
  const path = file("policy.yaml", denying("ann"));
  // More often than one change is told.
  const failures = Array.from({ length: 4 }, () => queueFull("policy documents"));
  const read: typeof usual.read = async (text, name) => {
    if (text !== denying("ann") && failures.length > 0) throw failures.pop();
    return usual.read(text, name);
  };
  const { reloads, digests, lines } = await start(path, 20, { ...usual, read });
  replace("policy.yaml", denying("ben"));
  expect(await reloads.next()).toBe("loaded");
  expect(digests()).toEqual([digestOf(denying("ben"))]);
  expect(lines.some(({ msg }) => msg.includes("trying again"))).toBe(true);
});
