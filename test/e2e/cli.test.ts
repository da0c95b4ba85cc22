/** The command line against a running server with the demo agents behind it, and the server's own process. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { RunningAgent } from "../../examples/agents/agent-server.ts";
import { startTravelAgent } from "../../examples/agents/travel.ts";
import { startWriterAgent } from "../../examples/agents/writer.ts";
import { COMMAND } from "../../scripts/bundle.ts";
import { ROOT } from "../../scripts/run.ts";
import { PACKAGE_VERSION } from "../../src/config/package.ts";
import { pgliteDirectory } from "../setup/pglite-template.ts";
import { type CommandResult, runCommand, startTestApp, type TestApp } from "./running-app.ts";

let app: TestApp;
let writer: RunningAgent;
let travel: RunningAgent;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "signalbox-cli-"));
  [app, writer, travel] = await Promise.all([startTestApp(), startWriterAgent(), startTravelAgent()]);
  expect(await signalbox("agents", "register", writer.url)).toMatchObject({ code: 0 });
  const card = await (await fetch(`${travel.url}/.well-known/agent-card.json`)).text();
  writeFileSync(join(folder, "travel.json"), card);
  expect(await signalbox("agents", "register", join(folder, "travel.json"), "--id", "tour")).toMatchObject({ code: 0 });
  expect(await signalbox("agents", "default", "writer")).toMatchObject({ code: 0 });
});

afterAll(async () => {
  await app.stop();
  await Promise.all([writer.close(), travel.close()]);
  rmSync(folder, { recursive: true, force: true });
});

interface Session {
  /** Resolves when the output holds what `pattern` says. */
  shows(pattern: RegExp): Promise<void>;
  stop(): void;
  readonly result: Promise<CommandResult>;
}

/** Runs a command in this process, with a terminal of its own. */
function start(...args: string[]): Session {
  const stop = new AbortController();
  let shown = "";
  const waiting = new Set<() => void>();
  const onText = ({ out }: { out: string }) => {
    shown = out;
    for (const look of waiting) look();
  };
  return {
    shows: (pattern) =>
      new Promise((resolve) => {
        const look = () => pattern.test(shown) && resolve();
        waiting.add(look);
        look();
      }),
    stop: () => stop.abort(),
    result: runCommand(app.httpUrl, args, { stop: stop.signal, cwd: folder, onText }),
  };
}

const signalbox = (...args: string[]) => start(...args).result;

/** Sends a task to the travel agent, which asks where to go, and returns the task's id. */
async function askedTask(): Promise<string> {
  const { out } = await signalbox("send", "--agent", "tour", "--json", "Plan a journey");
  return JSON.parse(out).task.id;
}

describe("agents", () => {
  test("list: a table for people, JSON for programs", async () => {
    const { out } = await signalbox("agents", "list");
    expect(out).toMatch(
      /^ID +NAME +DEFAULT +REPEATABLE +HEALTHY +CIRCUIT +BINDING +URL +UPDATED\ntour +Travel +yes +closed +JSONRPC +http.*\nwriter +Writer +yes +yes +closed +GRPC +127/,
    );
    const listed = JSON.parse((await signalbox("agents", "list", "--json")).out);
    expect(listed.agents.map(({ agentId }: { agentId: string }) => agentId)).toEqual(["tour", "writer"]);
  });

  test("an agent is safe to repeat because someone says so", async () => {
    const args = ["agents", "register", writer.url, "--id", "third", "--safe-to-repeat"];
    expect((await signalbox(...args)).out).toMatch(/\nSafe to repeat +yes\n/);
    expect((await signalbox("agents", "list")).out).toMatch(/\nthird +Writer +yes +yes +closed +GRPC/);
    expect((await signalbox("agents", "update", "third", "--no-safe-to-repeat")).out).toMatch(/\nSafe to repeat +no\n/);
    const { out } = await signalbox("agents", "update", "third", "--safe-to-repeat", "--json");
    expect(JSON.parse(out)).toMatchObject({ agentId: "third", safeToRepeat: true });
    await signalbox("agents", "remove", "third");
  });

  test("an agent works on so many tasks at once", async () => {
    const args = ["agents", "register", writer.url, "--id", "third", "--max-concurrency", "3"];
    expect((await signalbox(...args)).out).toMatch(/\nAt once +3\n/);
    const { out } = await signalbox(
      "agents",
      "update",
      "third",
      "--max-concurrency",
      "5",
      "--safe-to-repeat",
      "--json",
    );
    expect(JSON.parse(out)).toMatchObject({ agentId: "third", maxConcurrency: 5, safeToRepeat: true });
    const text = (await signalbox("agents", "update", "third", "--max-concurrency", "0")).out;
    expect(text).toMatch(/\nSafe to repeat +yes\nAt once +no limit\n/);
    await signalbox("agents", "remove", "third");
  });

  test("show and remove", async () => {
    await signalbox("agents", "register", `${writer.url}/.well-known/agent-card.json`, "--id", "second");
    expect((await signalbox("agents", "show", "second")).out).toMatch(/Agent +second\nName +Writer\n/);
    expect(await signalbox("agents", "remove", "second")).toEqual({
      code: 0,
      out: "Agent second is removed.\n",
      err: "",
    });
    expect(await signalbox("agents", "show", "second")).toMatchObject({
      code: 1,
      out: "",
      err: expect.stringContaining("AGENT_NOT_FOUND"),
    });
  });
});

describe("send", () => {
  test("waits and shows the artifact", async () => {
    const { code, out } = await signalbox("send", "Write about", "lanterns.");
    expect(code).toBe(0);
    expect(out).toMatch(/^Task +\S+\nContext +\S+\nState +COMPLETED\n/);
    expect(out).toContain("\nArtifact text:\nYou asked about lanterns. It begins");
  });

  test("--stream shows the chunks as one text, --json one item a line", async () => {
    const { out } = await signalbox("send", "--stream", "Write about lanterns");
    expect(out).toMatch(
      /^Task \S+\n(SUBMITTED\n)?WORKING\nArtifact text:\nYou asked about lanterns\. .*\nCOMPLETED\n$/,
    );
    const lines = (await signalbox("send", "--stream", "--json", "Hello")).out.trimEnd().split("\n");
    const items = lines.map((line) => JSON.parse(line));
    expect(items[0]).toHaveProperty("task.id");
    expect(items.at(-1)).toHaveProperty("statusUpdate.status.state", "TASK_STATE_COMPLETED");
  });

  test("a task that asks is answered, with a file", async () => {
    writeFileSync(join(folder, "wishes.txt"), "sea");
    const asked = await signalbox("send", "--agent", "tour", "Plan a journey");
    const id = /Task +(\S+)/.exec(asked.out)?.[1] ?? "";
    expect(asked).toMatchObject({ code: 0, err: `Answer with: signalbox send --task ${id} "..."\n` });
    expect(asked.out).toContain("INPUT_REQUIRED");
    const { code, out } = await signalbox("send", "--task", id, "--file", join(folder, "wishes.txt"), "Lisbon");
    expect(code).toBe(0);
    expect(out).toMatch(/State +COMPLETED\n/);
    expect(out).toContain("Three days in Lisbon");
    const { history } = JSON.parse((await signalbox("task", "get", id, "--json")).out);
    expect(history.at(-1).parts).toContainEqual({ filename: "wishes.txt", mediaType: "text/plain", raw: "c2Vh" });
  });

  test("--no-wait shows the task at once", async () => {
    const { out } = await signalbox("send", "--no-wait", "--json", "Hello");
    expect(JSON.parse(out).task.status.state).toMatch(/SUBMITTED|WORKING/);
  });
});

describe("task", () => {
  test("watch follows a task to its end", async () => {
    const id = await askedTask();
    const watching = start("task", "watch", id);
    await watching.shows(/INPUT_REQUIRED/);
    await signalbox("send", "--task", id, "Oslo");
    const { code, out } = await watching.result;
    expect(code).toBe(0);
    expect(out).toContain("Artifact plan:\nThree days in Oslo\n");
    expect(out).toMatch(/COMPLETED: Have a good journey to Oslo\.\n$/);
    // Once more, now that it has ended.
    expect((await signalbox("task", "watch", id)).out).toContain("COMPLETED");
  });

  test("watch refuses to go on after what is not there yet, and names the option, once", async () => {
    const id = await askedTask();
    const { code, err } = await signalbox("task", "watch", id, "--after", "999");
    expect(code).toBe(1);
    expect(err).toMatch(/^error: --after: says 999, but the log of this task ends at \d+; .*\n {2}\S.*\n$/);
  });

  test("cancel, and what watching a canceled task tells", async () => {
    const id = await askedTask();
    const watching = start("task", "watch", id);
    await watching.shows(/INPUT_REQUIRED/);
    expect((await signalbox("task", "cancel", id)).out).toMatch(/State +CANCELED/);
    expect((await watching.result).code).toBe(1);
    expect(await signalbox("task", "cancel", id, "--json")).toMatchObject({ code: 1, out: "" });
  });

  test("list filters", async () => {
    const id = await askedTask();
    const { out } = await signalbox("task", "list", "--state", "input-required", "--limit", "1");
    expect(out).toMatch(new RegExp(`^ID +CONTEXT +STATE +UPDATED\n${id} +\\S+ +INPUT_REQUIRED +\\d+s\n$`));
    const all = JSON.parse((await signalbox("task", "list", "--json")).out);
    expect(all.totalSize).toBeGreaterThanOrEqual(all.tasks.length);
  });

  test("log: where a task stands and how it came there, a table for people, JSON for programs", async () => {
    const id = await askedTask();
    const { code, out } = await signalbox("task", "log", id);
    expect(code).toBe(0);
    expect(out).toMatch(new RegExp(`^Task +${id}\nAgent +tour\nState +INPUT_REQUIRED\nAttempt +1\nPriority +NORMAL\n`));
    expect(out).toMatch(
      /\nNUMBER +TIME +STATE +ATTEMPT +TOKEN +REPLICA +KIND +CAUSE\n1 +\S+ +ASSIGNED +1 +1 +\S+ +message +\S/,
    );
    expect(out).toMatch(/ +INPUT_REQUIRED +1 +1 +\S+ +status.*\n$/);
    const { execution, transitions } = JSON.parse((await signalbox("task", "log", id, "--json")).out);
    expect(execution).toMatchObject({ taskId: id, state: "ENGINE_STATE_INPUT_REQUIRED" });
    expect(transitions.at(0)).toMatchObject({ sequence: "1", state: "ENGINE_STATE_ASSIGNED" });
    expect(transitions.at(-1)).toMatchObject({ state: "ENGINE_STATE_INPUT_REQUIRED" });
    expect(await signalbox("task", "log", "nope")).toMatchObject({
      code: 1,
      out: "",
      err: expect.stringContaining("TASK_NOT_FOUND"),
    });
  });

  test("Ctrl-C ends a watch, not the task", async () => {
    const id = await askedTask();
    const watching = start("task", "watch", id);
    await watching.shows(/INPUT_REQUIRED/);
    watching.stop();
    expect(await watching.result).toMatchObject({ code: 1, err: "Stopped. What the server has begun goes on.\n" });
    expect((await signalbox("task", "get", id)).out).toContain("INPUT_REQUIRED");
  });
});

describe("what goes wrong", () => {
  test("the server's error: message, reason and fields, also as JSON", async () => {
    const { code, err } = await signalbox("agents", "register", writer.url, "--id", "No Label");
    expect(code).toBe(1);
    expect(err).toMatch(/^error: agentId: must be a DNS label.*\n {2}INVALID_ARGUMENT\n$/);
    const asJson = await signalbox("task", "get", "nope", "--json");
    expect(JSON.parse(asJson.err).error).toMatchObject({ code: "NOT_FOUND", reason: "TASK_NOT_FOUND" });
  });

  test("no server: its address, and how to start one", async () => {
    // Nobody listens on the port of a server that has stopped.
    const gone = await startWriterAgent();
    await gone.close();
    const { code, err } = await signalbox("task", "list", "--server", gone.url);
    expect(code).toBe(1);
    expect(err).toContain(`Nothing answers at ${gone.url}. Start a server with "signalbox serve"`);
  });

  test.each([
    [["snd", "hello"], "Did you mean send?"],
    [["send"], "missing required argument"],
    [["send", "--stream", "--no-wait", "hello"], "leave out --no-wait"],
    [["send", "--file", "gone.txt", "hello"], "gone.txt does not exist"],
    [["agents", "register", "gone.json"], "gone.json does not exist"],
    [["agents", "update", "writer"], "give --safe-to-repeat, --no-safe-to-repeat or"],
    [["agents", "update", "writer", "--max-concurrency", "many"], "It is 0 to 1000000"],
    [["task", "list", "--state", "happy"], "It is one of SUBMITTED, WORKING"],
    [["task", "list", "--limit", "0"], "It is 1 to 100"],
    [["task", "list", "--server", "localhost"], "--server: The server is"],
    [["serve", "--grpc-prt", "1"], "Did you mean --grpc-port?"],
    [["serve", "--http-port", "http", "--tls-key", "/dev/null"], "The configuration has 2 mistakes"],
  ])("wrong use: %s", async (args, told) => {
    const { code, out, err } = await signalbox(...args);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain(told);
  });

  test("help and version are no mistakes", async () => {
    expect(await signalbox("--version")).toEqual({ code: 0, out: `${PACKAGE_VERSION}\n`, err: "" });
    expect((await signalbox("serve", "--help")).out).toContain("--http-base-path <path>");
  });
});

// Processes that open a new database take their time on a busy machine.
describe("the process", { timeout: 90_000 }, () => {
  test("serve tells where it listens; the first signal stops it cleanly", async () => {
    const server = launch(COMMAND, "serve", "--http-port", "0", "--grpc-port", "0");
    await server.shows(/Ctrl-C stops it/);
    const url = /HTTP +(\S+)/.exec(server.out())?.[1] ?? "";
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    const other = launch(COMMAND, "serve", "--http-port", "0", "--grpc-port", "0");
    expect(await other.exited).toBe(1);
    expect(other.out()).toMatch(/^error: The data directory .* is in use by .*\n$/);
    server.process.kill("SIGTERM");
    expect(await server.exited).toBe(0);
  });

  test("a second signal ends it at once", async () => {
    const dataDir = await pgliteDirectory();
    onTestFinished(() => rm(dataDir, { recursive: true }));
    const ports = ["--http-port", "0", "--grpc-port", "0", "--data-dir", dataDir];
    const server = launch(COMMAND, "serve", ...ports, "--drain-ms", "3600000");
    await server.shows(/Ctrl-C stops it/);
    // A request that never comes to its end holds up the drain.
    const port = Number(/HTTP +http:\/\/127.0.0.1:(\d+)/.exec(server.out())?.[1]);
    const socket = connect(port, "127.0.0.1").on("error", () => socket.destroy());
    socket.write(
      "POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    );
    await once(socket, "data");
    server.process.kill("SIGINT");
    await server.shows(/draining/);
    server.process.kill("SIGINT");
    expect(await server.exited).toBe(1);
    socket.destroy();
  });

  test("the demo shows a task, keeps serving, and starts again on the same data", async () => {
    for (let round = 0; round < 2; round++) {
      const demo = launch("scripts/demo.ts", "--http-port", "0", "--grpc-port", "0", "--data-dir", "demo");
      await demo.shows(/Serving\. Ctrl-C stops it\./);
      expect(demo.out()).toMatch(/Artifact text:\nYou asked about railway signals\. .*\nCOMPLETED\n/);
      const url = /HTTP +(\S+)/.exec(demo.out())?.[1] ?? "";
      expect((await signalbox("agents", "list", "--server", url)).out).toMatch(
        /travel +Travel.*\nwriter +Writer +yes /,
      );
      demo.process.kill("SIGINT");
      expect(await demo.exited).toBe(0);
    }
    // A policy that its user has made meanwhile may forbid the task.
    writeFileSync(join(folder, "strict.yaml"), "version: 1\nrules: [{effect: DENY, when: {agent_id: writer}}]\n");
    const strict = ["--data-dir", "demo", "--policy-path", "strict.yaml"];
    const demo = launch("scripts/demo.ts", "--http-port", "0", "--grpc-port", "0", ...strict);
    await demo.shows(/Serving\. Ctrl-C stops it\./);
    expect(demo.out()).toContain("This server does not take it: Policy does not let agent");
    demo.process.kill("SIGINT");
    expect(await demo.exited).toBe(0);
  });
});

/** Starts a program of the repository in a process of its own, which the test ends if it does not end itself. */
function launch(script: string, ...args: string[]) {
  const child: ChildProcess = spawn(process.execPath, [resolve(ROOT, script), ...args], {
    cwd: folder,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const exited = once(child, "close").then(([code]) => code as number | null);
  let text = "";
  const waiting = new Set<() => void>();
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding("utf8").on("data", (more: string) => {
      text += more;
      for (const look of waiting) look();
    });
  }
  return {
    process: child,
    exited,
    out: () => text,
    /** Rejects when the process ends without having shown it. */
    shows: (pattern: RegExp): Promise<void> =>
      new Promise((resolve, reject) => {
        const look = () => pattern.test(text) && resolve();
        waiting.add(look);
        look();
        void exited.then((code) => reject(new Error(`The process ended with ${code}: ${text}`)));
      }),
  };
}
