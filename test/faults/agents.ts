/** The agents of the fault suite: processes that can be killed, forgotten and hung, each registered under several ids. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import { type AgentCard, AgentCardSchema } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import type { SignalboxClient } from "../../src/sdk/client.ts";
import { stablePort } from "../setup/stable-port.ts";
import { type JournalEntry, readJournal } from "./agent/journal.ts";

/** An agent as Signalbox knows it: one interface of one process. */
export interface FaultAgent {
  agentId: string;
  binding: "GRPC" | "JSONRPC" | "HTTP+JSON";
  streaming: boolean;
  /** Whether it is registered as safe to repeat. */
  safe: boolean;
  process: AgentProcess;
}

export interface AgentProcess {
  readonly name: string;
  /** Starts it, and whenever it dies, starts it again. */
  start(): Promise<void>;
  /** Kills it and starts it again. Without its memory it knows none of its tasks any more. Resolves when it serves. */
  kill(options: { memory: boolean }): Promise<void>;
  hang(): void;
  wake(): void;
  journal(): JournalEntry[];
  /** Ends it for good. */
  stop(): Promise<void>;
}

export interface FaultAgents {
  readonly processes: readonly AgentProcess[];
  readonly all: readonly FaultAgent[];
  register(client: SignalboxClient): Promise<void>;
  stop(): Promise<void>;
}

const PROGRAM = fileURLToPath(new URL("./agent/agent-process.ts", import.meta.url));

/** Two processes with three ids each: every binding with and without a stream, safe to repeat and not. */
export async function startAgents(folder: string, onDeath: (agent: string) => void): Promise<FaultAgents> {
  const [one, two] = await Promise.all(["one", "two"].map((name) => createAgentProcess(name, folder, onDeath)));
  const processes = [one!.process, two!.process];
  await Promise.all(processes.map((process) => process.start()));
  const places = [
    { ...one!, binding: "GRPC", streaming: true, safe: false },
    { ...one!, binding: "JSONRPC", streaming: true, safe: true },
    { ...one!, binding: "HTTP+JSON", streaming: false, safe: false },
    { ...two!, binding: "GRPC", streaming: false, safe: true },
    { ...two!, binding: "JSONRPC", streaming: false, safe: false },
    { ...two!, binding: "HTTP+JSON", streaming: true, safe: true },
  ] as const;
  const all = places.map((place, i) => ({ ...place, agentId: `agent-${i + 1}` }));
  return {
    processes,
    all,
    async register(client) {
      for (const { agentId, safe, streaming, binding, urls } of all) {
        const value = cardOf(agentId, binding, urls[binding], streaming);
        await client.registry.registerAgent({ agentId, source: { case: "card", value }, safeToRepeat: safe });
      }
    },
    stop: async () => void (await Promise.all(processes.map((process) => process.stop()))),
  };
}

function cardOf(name: string, protocolBinding: string, url: string, streaming: boolean): AgentCard {
  return create(AgentCardSchema, {
    name,
    description: "An agent that fails.",
    version: "1",
    capabilities: { streaming },
    supportedInterfaces: [{ url, protocolBinding, protocolVersion: "1.0" }],
    defaultInputModes: ["text/plain"],
    defaultOutputModes: ["text/plain"],
  });
}

async function createAgentProcess(name: string, parent: string, onDeath: (agent: string) => void) {
  const folder = join(parent, name);
  await mkdir(folder, { recursive: true });
  const [http, grpc] = [await stablePort(), await stablePort()];
  let child: ChildProcess;
  let exit: Promise<unknown>;
  let ready: Promise<unknown>;
  let stopping = false;

  function launch(): void {
    child = spawn(process.execPath, [PROGRAM, folder, String(http), String(grpc)], {
      // It ends with this process, because its input does; what it says of its troubles is not of interest.
      stdio: ["pipe", "pipe", "ignore"],
    });
    exit = once(child, "exit");
    ready = once(createInterface(child.stdout!), "line");
    void exit.then(async () => {
      if (stopping) return;
      onDeath(name);
      launch();
    });
  }

  const self: AgentProcess = {
    name,
    async start() {
      launch();
      await ready;
    },
    async kill({ memory }) {
      // Before its end: the next life begins at once, and reads what there is.
      if (!memory) await rm(join(folder, "tasks"), { force: true });
      const before = exit;
      child.kill("SIGKILL");
      await before;
      await ready;
    },
    hang: () => void child.kill("SIGSTOP"),
    wake: () => void child.kill("SIGCONT"),
    journal: () => readJournal(join(folder, "journal")),
    async stop() {
      stopping = true;
      child.kill("SIGKILL");
      await exit;
    },
  };
  const urls = {
    GRPC: `127.0.0.1:${grpc}`,
    JSONRPC: `http://127.0.0.1:${http}/rpc`,
    "HTTP+JSON": `http://127.0.0.1:${http}/rest`,
  };
  return { process: self, urls };
}
