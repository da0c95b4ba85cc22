/** A verifier of audit logs that shares nothing with ours: Python, from the text of docs/audit.md. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { act } from "../conformance/scripted-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { missingPrograms, runProgram } from "./program.ts";

const PYTHON = "/usr/bin/python3";

const missing = await missingPrograms(PYTHON);
if (missing.length > 0) console.warn(`The Python verifier did not run: needs ${missing.join(", ")}.`);

describe.skipIf(missing.length > 0)("the Python verifier", () => {
  let app: TestApp;
  let key: string;
  let size: number;

  const clientOf = () => createSignalboxClient({ baseUrl: app.httpUrl });
  const path = (name: string) => join(app.dataDir, name);

  beforeAll(async () => {
    app = await startTestApp({ backend: "pglite", agents: { tour: act } });
    const client = clientOf();
    for (let i = 0; i < 4; i++) await client.send("complete", { agent: "tour" });
    const isWhole = async () => {
      const { entries } = await client.audit.listEntries({ pageSize: 1_000 });
      size = entries.length;
      return size > 0 && entries.every(({ index }) => index !== undefined);
    };
    while (!(await isWhole()));
    key = (await client.audit.listAuditKeys({})).keys[0]!.verifierKey;
    writeFileSync(path("export.jsonl"), await exported());
    return () => app.stop();
  });

  async function exported(startIndex = 0n, endIndex = 0n): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const { lines } of clientOf().audit.exportEntries({ startIndex, endIndex })) chunks.push(lines);
    return Buffer.concat(chunks);
  }

  const verify = (file: string, ...more: string[]) =>
    runProgram(PYTHON, ["test/interop/audit_verify.py", path(file), key, ...more], { PYTHONDONTWRITEBYTECODE: "1" });

  test("finds an export intact, whole and in part", async () => {
    const { code, stdout, stderr } = await verify("export.jsonl");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(new RegExp(`^intact: ${size} entries of signalbox-\\S+/default\n$`));
    writeFileSync(path("part.jsonl"), await exported(3n, 7n));
    expect(await verify("part.jsonl")).toMatchObject({ code: 0, stdout: expect.stringMatching(/^intact: 4 entries/) });
  });

  test("finds what was done to one", async () => {
    const lines = readFileSync(path("export.jsonl"), "utf8").split("\n");
    // Two of one chain: which chains come first is a matter of time.
    const chainOf = (line: string) => /^\{"chain":"[^"]+"/.exec(line)?.[0];
    const first = lines.findIndex((line, i) => lines.slice(i + 1).some((later) => chainOf(later) === chainOf(line)));
    const second = lines.findIndex((line, i) => i > first && chainOf(line) === chainOf(lines[first]!));
    const swapped = lines.with(first, lines[second]!).with(second, lines[first]!);
    const damages: [string[], RegExp][] = [
      [lines.with(2, lines[2]!.replace('"OK"', '"NO"')), /^(entry \d+ does not follow|the entries do not come)/],
      [lines.toSpliced(3, 1), /^(entry \d+ does not follow|the entries do not come)/],
      [swapped, new RegExp(`^entry ${first} does not follow|^the entries`)],
      [lines.slice(0, 5), /^truncated: no checkpoint after entry 3|^truncated/],
      [lines.toSpliced(2, 0, "rubbish"), /^entry 2 is none/],
      [lines.with(-2, lines.at(-2)!.replace("— ", "— other-")), /not signed/],
    ];
    for (const [changed, told] of damages) {
      writeFileSync(path("damaged.jsonl"), changed.join("\n"));
      const { code, stdout } = await verify("damaged.jsonl");
      expect(stdout).toMatch(told);
      expect(code).toBe(1);
    }
  });

  test("checks proofs, and a checkpoint that was kept", async () => {
    const write = async (name: string, method: string) => {
      const response = await fetch(`${app.httpUrl}/v1/audit/${method}`);
      writeFileSync(path(`${name}.proof.json`), await response.text());
      return verify(`${name}.proof.json`);
    };
    expect(await write("inclusion", "inclusion?index=5")).toMatchObject({ code: 0, stdout: "proven\n" });
    expect(await write("consistency", "consistency?firstSize=3")).toMatchObject({ code: 0, stdout: "proven\n" });
    const { note } = await clientOf().audit.getCheckpoint({});
    writeFileSync(path("kept.txt"), note);
    expect(await verify("export.jsonl", path("kept.txt"))).toMatchObject({ code: 0 });
    writeFileSync(path("kept.txt"), note.replace(/\n[^\n]{44}\n/, `\n${"A".repeat(43)}=\n`));
    expect(await verify("export.jsonl", path("kept.txt"))).toMatchObject({ code: 1 });
  });
});
