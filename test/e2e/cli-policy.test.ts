/** `signalbox policy`, against a running server and without one. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { echoAgent } from "./echo-agent.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "signalbox-policy-"));
  return () => rmSync(folder, { recursive: true });
});

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const command = (server: string, stdin: string, ...args: string[]) =>
  runCommand(server, ["policy", ...args], { stdin, cwd: folder });

const POLICY = "version: 1\nrules:\n  - effect: DENY\n    when: {agent_id: ann}\n    description: Not Ann\n";
const WRONG = "version: 1\nrules:\n  - effect: FORBID\n";

describe("without a server", () => {
  const signalbox = (...args: string[]) => command("http://127.0.0.1:1", POLICY, ...args);

  test("validate tells what is wrong, each with its place", async () => {
    const path = file("policy.yaml", POLICY);
    expect(await signalbox("validate", path)).toEqual({
      code: 0,
      out: `${path} is a policy: 1 rule, 0 budgets.\n`,
      err: "",
    });
    expect((await signalbox("validate", "-")).out).toBe("standard input is a policy: 1 rule, 0 budgets.\n");
    const wrong = await signalbox("validate", file("wrong.yaml", WRONG));
    expect(wrong).toMatchObject({ code: 1, out: "" });
    expect(wrong.err).toMatch(/wrong\.yaml:3:\d+: rules\[0\]\.effect: .*DENY/);
    const { code, out } = await signalbox("validate", "--json", join(folder, "wrong.yaml"));
    expect([code, JSON.parse(out)]).toMatchObject([
      1,
      { problemCount: 1, problems: [{ line: 3, path: "rules[0].effect" }] },
    ]);
    expect(await signalbox("validate", "gone.yaml")).toMatchObject({
      code: 2,
      err: expect.stringContaining("gone.yaml does not exist"),
    });
  });

  test("test runs cases, and fails with those that do not hold", async () => {
    file("policy.yaml", POLICY);
    const held = "  - {name: ann, facts: {agent_id: ann}, expect: {effect: DENY, rules: ['rules[0]']}}\n";
    const path = file("cases.yaml", `policy: policy.yaml\ncases:\n${held}`);
    expect(await signalbox("test", path)).toEqual({ code: 0, out: "1 passed, 0 failed\n", err: "" });
    expect((await signalbox("test", "--verbose", path)).out).toBe(`ok    ${path}:3: ann\n1 passed, 0 failed\n`);
    const broken = file(
      "broken.yaml",
      `policy: policy.yaml\ncases:\n${held}  - {name: ben, facts: {agent_id: ben}, expect: {effect: DENY}}\n`,
    );
    const failed = await signalbox("test", broken);
    expect(failed).toEqual({
      code: 1,
      out: `FAIL  ${broken}:4: ben: expected DENY, but it is ALLOW by the default\n1 passed, 1 failed\n`,
      err: "",
    });
    const { out } = await signalbox("test", "--json", broken);
    expect(JSON.parse(out)).toMatchObject({
      passed: 1,
      failed: 1,
      cases: [{ passed: true }, { effect: "ALLOW", rules: [] }],
    });
    const other = file("other.yaml", "version: 1\nrules: [{effect: DENY, when: {agent_id: ben}}]\n");
    expect((await signalbox("test", "--policy", other, path)).out).toContain("1 failed");
    const inline = file(
      "inline.yaml",
      `policy: {version: 1, default: DENY}\ncases:\n  - {name: all, expect: {effect: DENY}}\n`,
    );
    expect((await signalbox("test", inline)).code).toBe(0);
    const nonsense = await signalbox("test", file("nonsense.yaml", "cases: [{name: x}]"));
    expect(nonsense).toMatchObject({ code: 1, err: expect.stringMatching(/nonsense\.yaml:1:\d+: /) });
  });
});

describe("with a server", () => {
  let app: TestApp;
  beforeAll(async () => {
    app = await startTestApp({ agents: { ann: echoAgent("ann"), ben: echoAgent("ben") } });
    return () => app.stop();
  });
  const signalbox = (...args: string[]) => command(app.httpUrl, POLICY, ...args);

  test("put, get, versions and rollback keep house of what holds", async () => {
    expect(await signalbox("get")).toEqual({ code: 0, out: "", err: 'No policy yet; its etag is "0".\n' });
    expect((await signalbox("versions")).out).toBe("No policy was ever put: signalbox policy put FILE.\n");
    const first = await signalbox("put", "-", "--comment", "first", "--etag", '"0"');
    expect(first).toEqual({ code: 0, out: "Version 1 is in force: 1 rule, 0 budgets.\n", err: "" });
    const read = await signalbox("get");
    expect(read.out).toBe(POLICY);
    expect(read.err).toMatch(/^Version 1, put by anonymous \d+s ago; its etag is "1"\.\n$/);

    const second = file("second.yaml", POLICY.replaceAll("ann", "ben"));
    expect((await signalbox("put", second)).out).toContain("Version 2 is in force");
    expect(await signalbox("put", second, "--etag", '"1"')).toMatchObject({
      code: 1,
      err: expect.stringContaining("ETAG_MISMATCH"),
    });
    const wrong = await signalbox("put", file("wrong.yaml", WRONG));
    expect(wrong.code).toBe(1);
    expect(wrong.err).toMatch(/^\/.*wrong\.yaml:3:\d+: rules\[0\]\.effect: .*DENY/);
    const many = file(
      "many.yaml",
      `version: 1\nrules:\n${"  - {effect: FORBID, description: a very wrong rule}\n".repeat(60)}`,
    );
    const told = await signalbox("put", many);
    expect([told.code, told.err.trimEnd().split("\n").length]).toEqual([1, 60]);
    expect((await signalbox("put", many, "--json")).out).toContain('"problemCount": 60');
    expect((await signalbox("get", "1")).out).toBe(POLICY);
    expect(await signalbox("get", "7")).toMatchObject({
      code: 1,
      err: expect.stringContaining("POLICY_VERSION_NOT_FOUND"),
    });
    expect((await signalbox("rollback", "1")).out).toContain("Version 3 is in force");
    expect((await signalbox("versions", "--limit", "2")).out).toMatch(
      /^VERSION +RULES +BUDGETS +BY +AGE +COMMENT\n3 +1 +0 +anonymous +\d+s +Rollback to version 1\n2 +1 +0 +anonymous +\d+s\n$/,
    );
    expect(JSON.parse((await signalbox("get", "--json")).out)).toMatchObject({ version: 3, etag: '"3"', ruleCount: 1 });
    expect(await signalbox("rollback", "last")).toMatchObject({ code: 2 });
  });

  test("eval decides about facts, and replay about the past", async () => {
    await signalbox("put", "-");
    const denied = await signalbox("eval", "agent_id=ann", "cost=0.25", "message_bytes=12", "input_modes=text/plain");
    expect(denied.code).toBe(1);
    expect(denied.out).toMatch(
      /^Effect +DENY\nReason +Refused by rules\[0\] \(Not Ann\)\.\nVersion +\d+\n\nRULE +EFFECT +SCOPE +LINE +DESCRIPTION\nrules\[0\] +DENY +\w+ +3 +Not Ann\n$/,
    );
    expect(await signalbox("eval", "agent_id=ben")).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^Effect +ALLOW\n/),
    });
    const draft = file("draft.yaml", POLICY.replaceAll("ann", "ben"));
    expect((await signalbox("eval", "agent_id=ben", "--draft", draft, "--json")).out).toContain('"POLICY_EFFECT_DENY"');
    expect(await signalbox("eval", "agent=ben")).toMatchObject({
      code: 1,
      err: expect.stringContaining("facts.agent"),
    });
    expect(await signalbox("eval", "ben")).toMatchObject({ code: 2 });
    expect(await signalbox("eval", "--phase", "later")).toMatchObject({ code: 2 });

    for (const agent of ["ben", "ben"]) {
      const sent = await fetch(`${app.httpUrl}/agents/${agent}/message:send`, {
        method: "POST",
        headers: { "content-type": "application/json", "a2a-version": "1.0" },
        body: JSON.stringify({ message: { messageId: "m", role: "ROLE_USER", parts: [{ text: "hello" }] } }),
      });
      expect(sent.status).toBe(200);
    }
    const replay = await signalbox("replay", draft, "--since", "1h");
    expect(replay.code).toBe(0);
    expect(replay.out).toMatch(/^Tasks +2 from .*\nWould change +2\n\nTASK +DECIDED +BEFORE +AFTER +WHY\n/);
    expect(replay.out).toMatch(/ALLOW +DENY +Refused by rules\[0\] \(Not Ann\)\./);
    expect((await signalbox("replay", "-", "--limit", "1")).out).toMatch(
      /the newest; there were more\nWould change +0\n$/,
    );
    expect(await signalbox("replay", "-", "--limit", "all")).toMatchObject({ code: 2 });
  });
});
