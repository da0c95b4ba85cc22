/** Who reads large policy documents when: one workspace's drafts keep neither another's nor what holds waiting. */
import { expect, onTestFinished, test } from "vitest";
import { createPolicyReader } from "../../src/services/policy-reader.ts";
import { systemRuntime } from "../../src/services/runtime.ts";

const large = `version: 1\nrules: []\n# ${"x".repeat(20_000)}\n`;
const isRead = { document: { rules: [] } };
const isFull = { code: "RESOURCE_EXHAUSTED", reason: "QUEUE_FULL" };

function open() {
  const reader = createPolicyReader(systemRuntime());
  onTestFinished(() => reader.close());
  const end = new AbortController();
  const draft = (workspaceId: string, signal = end.signal) => reader.draft(large, { workspaceId, signal });
  return { reader, draft, end };
}

test("what a text can stand for many times by its aliases is large", () => {
  const { reader } = open();
  expect(["version: 1", "version: 1\nrules: [&a {effect: DENY}, *a]", large].map(reader.isLarge)).toEqual([
    false,
    true,
    true,
  ]);
});

test("drafts of one workspace keep neither those of others waiting for a place, nor what is to hold", async () => {
  const { reader, draft, end } = open();
  const drafts = Array.from({ length: 4 }, () => draft("a"));
  await expect(draft("a")).rejects.toMatchObject(isFull);
  const others = ["b", "c", "d"].flatMap((workspaceId) => Array.from({ length: 4 }, () => draft(workspaceId)));
  for (const waiting of [...drafts, ...others]) waiting.catch(() => {});
  expect(await reader.read(large)).toMatchObject(isRead);
  end.abort(new Error("given up"));
  await expect(others.at(-1)).rejects.toThrow("given up");
  // Their places are free at once.
  expect(await draft("a", new AbortController().signal)).toMatchObject(isRead);
});

test("who has given up, or has when it is read, is not read for", async () => {
  const { draft, end } = open();
  const all = Promise.allSettled([draft("a"), draft("a")]);
  end.abort(new Error("given up"));
  for (const each of await all) expect(each).toMatchObject({ status: "rejected", reason: { message: "given up" } });
  await expect(draft("a")).rejects.toThrow("given up");
});

test("nothing is read any more once it is closed", async () => {
  const { reader, draft } = open();
  const all = Promise.allSettled([reader.read(large), reader.read(large), draft("a")]);
  await reader.close();
  for (const each of await all)
    expect(each).toMatchObject({ status: "rejected", reason: { message: "the server stops" } });
  await expect(reader.read(large)).rejects.toThrow("the server stops");
});
