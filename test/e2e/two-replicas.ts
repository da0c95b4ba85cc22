/** Two servers on one PostgreSQL, A and B, and an agent that both of them reach. */
import { create } from "@bufbuild/protobuf";
import { onTestFinished } from "vitest";
import { type StreamResponse, TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import { EngineState, type TaskTransition } from "../../gen/signalbox/v1/task_pb.ts";
import { createSignalboxClient, type SignalboxClient } from "../../src/sdk/client.ts";
import { type RemotePuppet, startRemotePuppet } from "../agents/remote-puppet.ts";
import { createInbox, type Inbox } from "../fault/inbox.ts";
import { lineOf } from "../fault/said.ts";
import { startTcpProxy, type TcpProxy } from "../fault/tcp-proxy.ts";
import { createDatabase } from "../store/backends.ts";
import { type LogLines, logLines } from "../store/log-lines.ts";
import { startTestApp, type TestApp } from "./running-app.ts";

export interface Replica {
  readonly app: TestApp;
  readonly client: SignalboxClient;
  readonly logged: LogLines;
  /** Its way to the database. */
  readonly wire: TcpProxy;
  /** Stops it in order; once. */
  stop(): Promise<void>;
}
