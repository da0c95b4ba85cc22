/** A Python client, made from our .proto files by Debian's tools, against the gRPC listener. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestAgent, type TestAgent } from "../agents/test-agent.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { missingPrograms, runProgram } from "./program.ts";

const PYTHON = "/usr/bin/python3";

const missing = await missingParts();
if (missing.length > 0) console.warn(`The Python client did not run: needs ${missing.join(", ")}.`);

async function missingParts(): Promise<string[]> {
  const programs = await missingPrograms("protoc", "grpc_python_plugin", PYTHON);
  if (programs.includes(PYTHON)) return programs;
  const { code } = await runProgram(PYTHON, ["-c", "import grpc, google.protobuf"]);
  return code === 0 ? programs : [...programs, "the Python packages grpc and google.protobuf"];
}

describe.skipIf(missing.length > 0)("the Python client of examples/python", () => {
  let modules: string;
  let agent: TestAgent;
  let app: TestApp;

  beforeAll(async () => {
    modules = await mkdtemp(join(tmpdir(), "signalbox-python-"));
    const generated = await runProgram("examples/python/generate.sh", [modules]);
    expect(generated).toMatchObject({ code: 0, stderr: "" });
    agent = await startTestAgent();
    app = await startTestApp();
    await app.register("test", { cardUrl: agent.cardUrl });
  });
  afterAll(async () => {
    await app?.stop();
    await agent?.close();
    await rm(modules, { recursive: true, force: true });
  });

  const client = (...args: string[]) =>
    runProgram(PYTHON, ["examples/python/client.py", "--address", app.grpcAddress, ...args], {
      PYTHONPATH: modules,
      PYTHONDONTWRITEBYTECODE: "1",
    });

  test("lists services by reflection, sends, and streams", async () => {
    const { code, stdout, stderr } = await client("chunks 2");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout.trim().split("\n")).toEqual([
      "service lf.a2a.v1.A2AService",
      "service signalbox.v1.RegistryService",
      "service signalbox.v1.TaskService",
      "service signalbox.v1.RoutingService",
      "service signalbox.v1.RolloutService",
      "service signalbox.v1.MessageService",
      "service signalbox.v1.CacheService",
      "service signalbox.v1.PolicyService",
      "service signalbox.v1.ApprovalService",
      "service signalbox.v1.BudgetService",
      "service signalbox.v1.ReputationService",
      "service signalbox.v1.AuditService",
      "service signalbox.v1.WorkspaceService",
      "service grpc.health.v1.Health",
      "service grpc.reflection.v1.ServerReflection",
      "service grpc.reflection.v1alpha.ServerReflection",
      "task TASK_STATE_COMPLETED The end.",
      "artifact story chunk 1;chunk 2;",
      "stream task TASK_STATE_SUBMITTED",
      "stream status TASK_STATE_WORKING",
      "stream artifact story chunk 1;",
      "stream artifact story chunk 2;",
      "stream status TASK_STATE_COMPLETED The end.",
    ]);
    expect(agent.received.map(({ parts }) => parts[0]?.content?.value)).toEqual(["chunks 2", "chunks 2"]);
  });

  test("reaches one agent by its tenant, and gets its bare message", async () => {
    const { code, stdout } = await client("--tenant", "a.test", "message");
    expect(code).toBe(0);
    expect(stdout).toContain("\nmessage Hello from the agent.\nstream message Hello from the agent.\n");
  });

  test("reads the reason of a refusal", async () => {
    const { code, stderr } = await client("--tenant", "a.nobody");
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error NOT_FOUND TARGET_NOT_FOUND \(signalbox\) There is no agent "nobody"/);
  });
});
