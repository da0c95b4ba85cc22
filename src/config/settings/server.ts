/** Settings of the process and its listeners: where it listens, what it stores in, and how much it takes on. */
import {
  boolean,
  durationMs,
  httpUrl,
  integer,
  isHost,
  isHostAndPort,
  isLoopbackHost,
  list,
  oneOf,
  path,
  text,
} from "../kinds.ts";
import type { Setting } from "./setting.ts";

export const SERVER_SETTINGS = {
  config: {
    ...path("the path of a YAML file", "file"),
    about: "The YAML file with further settings. Not itself a key of that file.",
    defaultText: "`signalbox.yaml` in the working folder, if there is one",
  },
  host: {
    ...text("an IP address or a host name, without a port", "address", isHost),
    default: "127.0.0.1",
    about:
      "Address that both listeners bind. Where other machines can reach it, everybody must authenticate: see `auth.anonymous-role`.",
  },
  "http.port": {
    ...integer(0, 65535),
    default: 8080,
    about: "Port of the HTTP listener: Connect, gRPC-Web, HTTP+JSON, JSON-RPC, cards, health. 0 takes any free port.",
  },
  "http.base-path": {
    ...text("a path such as /signalbox, without a slash at its end", "path", (p) => /^(\/[\w.~-]+)*$/.test(p)),
    default: "",
    about: "Path prefix of the HTTP listener: stripped before routing, and part of the addresses that cards advertise.",
  },
  "http.cors-origins": {
    ...list("origins such as https://app.example.com, or * for all", "origins", isOrigin),
    default: [],
    about: "Origins of web pages that may call the HTTP listener.",
  },
  "http.compress": {
    ...boolean,
    default: false,
    about:
      "Whether Connect and gRPC-Web answers over 1 KiB are compressed for clients that accept it. Costs half of the throughput.",
  },
  "grpc.port": {
    ...integer(0, 65535),
    default: 50051,
    about: "Port of the gRPC listener. 0 takes any free port.",
  },
  "database.url": {
    ...text("a postgres:// or postgresql:// address", "url", isPostgresUrl),
    secret: true,
    defaultText: "none: the embedded PGlite in `data.dir`",
    about: "PostgreSQL database to store everything in.",
  },
  "database.pool-size": {
    ...integer(1, 1000),
    default: 10,
    about: "Most connections to PostgreSQL at once, besides one that listens for other replicas. PGlite has one.",
  },
  "database.row-level-security": {
    ...oneOf("auto", "required", "off"),
    default: "auto",
    about:
      "Whether what lists and shows one workspace's things reads in a role of the database that sees no other's rows. With `auto` it does where the database's user may make that role; with `required` the server does not start otherwise. See docs/identity.md.",
  },
  "data.dir": {
    ...path("the path of a folder", "folder"),
    default: ".signalbox",
    defaultText: "`.signalbox` in the working folder",
    about: "Folder of the embedded database; created when missing. One server at a time uses it.",
  },
  "log.level": {
    ...oneOf("fatal", "error", "warn", "info", "debug", "trace", "silent"),
    default: "info",
    about: "The least severe messages that are logged. Logs go to standard error, a JSON object a line.",
  },
  "public.url": {
    ...httpUrl("an http:// or https:// address without query"),
    defaultText: "the address of the HTTP listener, with `http.base-path`",
    about:
      "Address under which clients reach the HTTP listener, for the cards that are served. Needed behind a proxy. `http.base-path` is added to it.",
  },
  "public.grpc": {
    ...text("host:port", "host:port", isHostAndPort),
    defaultText: "the address of the gRPC listener",
    about: "Address under which clients reach the gRPC listener, for the cards that are served.",
  },
  "limits.message-bytes": {
    ...integer(1024, 67_108_864, "bytes"),
    default: 4_194_304,
    about: "Largest request, and largest message of an agent, in bytes.",
  },
  "limits.running-tasks": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about: "Most tasks that one server works on at once. What comes beyond waits in the queue.",
  },
  "limits.queued-tasks": {
    ...integer(0, 10_000_000),
    default: 100_000,
    about:
      "Most tasks that may wait for a server that has room, over all servers on the database. What comes beyond is refused with RESOURCE_EXHAUSTED.",
  },
  "limits.agent-queue": {
    ...integer(0, 1_000_000),
    default: 1_000,
    about:
      "Most tasks that may wait for room at one agent that works on as many as it may. What comes beyond is refused with RESOURCE_EXHAUSTED, and told when to come again.",
  },
  "limits.pending-approvals": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about:
      "Most tasks of one workspace that may wait for their approval. What comes beyond is refused with RESOURCE_EXHAUSTED.",
  },
  "limits.held-bytes": {
    ...integer(1024, 268_435_456, "bytes"),
    default: 16_777_216,
    about:
      "Most that is held back of one task until the policy has decided about its output, in bytes. A task whose agent says more ends FAILED.",
  },
  "limits.queue": {
    ...integer(1, 1_000_000),
    default: 10_000,
    about: "Most writes that may wait for the database. What comes beyond is refused with RESOURCE_EXHAUSTED.",
  },
  "drain.ms": {
    ...durationMs(0),
    default: 10_000,
    about: "How long a stopping server lets calls and streams finish, in milliseconds.",
  },
  "allow-private-urls": {
    ...boolean,
    default: (given: { host: string }): boolean => isLoopbackHost(given.host),
    defaultText: "`true` while `host` is loopback, else `false`",
    about:
      "Whether URLs given to the server (cards, agents, webhooks, issuers, token endpoints) may lead to loopback and private addresses. Without it, issuers, and agents that get a credential, must speak TLS.",
  },
} as const satisfies Record<string, Setting>;

function isOrigin(given: string): boolean {
  return given === "*" || (/^https?:/.test(given) && URL.parse(given)?.origin === given);
}

function isPostgresUrl(given: string): boolean {
  return /^postgres(ql)?:\/\//.test(given) && URL.canParse(given);
}
