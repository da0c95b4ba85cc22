/** The clients that README.md shows, as it shows them, against a running router with a real agent behind it. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { missingPrograms, runProgram } from "./program.ts";

const missing = await missingPrograms("bash", "curl");
if (missing.length > 0) console.warn(`examples/curl.sh did not run: needs ${missing.join(", ")}.`);

let agent: TestAgent;
let app: TestApp;

beforeAll(async () => {
  agent = await startTestAgent();
  app = await startTestApp();
  await app.register("test", { cardUrl: agent.cardUrl });
});
afterAll(async () => {
  await app?.stop();
  await agent?.close();
});

describe.skipIf(missing.length > 0)("examples/curl.sh", () => {
  test("shows the card, both JSON bindings, a stream, how it goes on, and the stored tasks", async () => {
    const { code, stdout, stderr } = await runProgram("examples/curl.sh", [app.httpUrl, "chunks 2"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [card = "", rpc = "", sent = "", stream = "", resumed = "", list = ""] = stdout.split(/^# .*\n/m).slice(1);
    const completed = { status: { state: "TASK_STATE_COMPLETED" }, artifacts: [{ name: "story" }] };
    expect(JSON.parse(card)).toMatchObject({ name: "Signalbox", skills: [{ id: "behave" }] });
    expect(JSON.parse(rpc)).toMatchObject({ jsonrpc: "2.0", id: 1, result: { task: completed } });
    expect(JSON.parse(sent)).toMatchObject({ task: completed });
    for (const shown of [stream, resumed]) {
      const items = [...shown.matchAll(/^data: (.*)$/gm)].map(([, data]) => Object.keys(JSON.parse(data!)).join());
      expect(items).toEqual(["task", "statusUpdate", "artifactUpdate", "artifactUpdate", "statusUpdate"]);
    }
    expect(JSON.parse(list)).toMatchObject({ totalSize: 3, tasks: [completed, completed] });
  });

  test("takes any text", async () => {
    const text = 'say "yes" \\ & go';
    const { code, stdout } = await runProgram("examples/curl.sh", [app.httpUrl, text]);
    expect({ code, stdout }).toMatchObject({ code: 0 });
    expect(agent.received.at(-1)?.parts[0]?.content?.value).toBe(text);
  });

  test("shows a refusal and fails", async () => {
    const { code, stdout } = await runProgram("examples/curl.sh", [`${app.httpUrl}/agents/nobody`]);
    expect(code).not.toBe(0);
    expect(stdout).toContain("ROUTE_NOT_FOUND");
  });
});

describe("examples/typescript/client.ts", () => {
  const client = (...args: string[]) => runProgram(process.execPath, ["examples/typescript/client.ts", ...args]);

  const told = [
    "task TASK_STATE_SUBMITTED",
    "status TASK_STATE_WORKING ",
    "artifact story chunk 1;",
    "artifact story chunk 2;",
    "status TASK_STATE_COMPLETED The end.",
    "stored story chunk 1;chunk 2;",
  ];

  test.each(["", "/agents/test"])("follows a task at the address %j", async (path) => {
    const { code, stdout, stderr } = await client(app.httpUrl + path, "chunks 2");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trimEnd().split("\n")).toEqual(told);
  });

  test("shows a bare message", async () => {
    const { stdout } = await client(app.httpUrl, "message");
    expect(stdout).toBe("message Hello from the agent.\n");
  });
});
