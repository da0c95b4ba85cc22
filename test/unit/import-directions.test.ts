/** The rooms of src/ and the one direction in which they may import each other, as docs/architecture.md tells. */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

const SRC = fileURLToPath(new URL("../../src", import.meta.url));

/** What each room may import besides itself and packages. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  domain: ["gen"],
  store: ["gen", "domain"],
  services: ["gen", "domain", "store"],
  outbound: ["gen", "domain", "store", "services"],
  transport: ["gen", "domain", "store", "services"],
  config: ["domain"],
  engine: ["gen", "domain", "store", "services", "outbound", "config"],
  app: ["gen", "domain", "store", "services", "outbound", "transport", "config", "engine"],
  sdk: ["gen"],
  cli: ["gen", "domain", "config", "sdk"],
  main: ["cli"],
};

/** Files that may import more than their room. */
const EXCEPTIONS: Record<string, readonly string[]> = {
  "cli/serve.ts": ["app"],
};

/** Packages of other rooms that a file may import: a policy is data, read where it is compiled. */
const BORROWED: Record<string, readonly string[]> = {
  "domain/policy/yaml-tree.ts": ["yaml"],
};

/** Packages that belong to one room. */
const OWNER: Record<string, string> = {
  kysely: "store",
  pg: "store",
  "@electric-sql/pglite": "store",
  yaml: "config",
  "@nats-io/transport-node": "outbound",
  "@nats-io/jetstream": "outbound",
};

test("src keeps to the directions of the architecture", () => {
  const files = readdirSync(SRC, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => join(entry.parentPath, entry.name));
  expect(files.length).toBeGreaterThan(0);
  const found = files.flatMap((file) =>
    violations(relative(SRC, file).split(sep).join("/"), readFileSync(file, "utf8")),
  );
  expect(found).toEqual([]);
});

describe("the rule", () => {
  test("lets through what the architecture allows", () => {
    const allowed = [
      'import { create } from "@bufbuild/protobuf";',
      'import type { Task } from "../../gen/lf/a2a/v1/a2a_pb.ts";',
      'import {\n  clip,\n  internal,\n} from "../domain/errors.ts";',
      'import type { Database } from "../store/database.ts";',
      'export { watch } from "./watch.ts";',
      'import { hrtime } from "node:process";',
      "// Never process.env.",
    ];
    expect(violations("services/tasks.ts", allowed.join("\n"))).toEqual([]);
    expect(violations("cli/serve.ts", 'import { startApp } from "../app.ts";')).toEqual([]);
    expect(violations("store/postgres.ts", 'import { Pool } from "pg";')).toEqual([]);
  });

  test.each([
    ["services/tasks.ts", 'import { grpc } from "../transport/grpc/server.ts";', "services must not import transport"],
    ["services/tasks.ts", 'import type { A } from "../outbound/agent.ts";', "services must not import outbound"],
    ["domain/errors.ts", 'export * from "../store/schema.ts";', "domain must not import store"],
    ["outbound/a.ts", 'const m = await import("../transport/b.ts");', "outbound must not import transport"],
    ["sdk/client.ts", 'import { clip } from "../domain/errors.ts";', "sdk must not import domain"],
    ["cli/send.ts", 'import { startApp } from "../app.ts";', "cli must not import app"],
    ["services/a.ts", 'import "../../examples/agents/writer.ts";', "src must not import examples/agents/writer.ts"],
    ["services/a.ts", 'import { sql } from "kysely";', "kysely belongs to store"],
    ["services/a.ts", 'import { Migrator } from "kysely/migration";', "kysely belongs to store"],
    ["transport/a.ts", 'import { parse } from "yaml";', "yaml belongs to config"],
    ["transport/a.ts", "const debug = process.env.DEBUG;", "config alone reads the environment"],
    ["transport/a.ts", 'import { env } from "node:process";', "config alone reads the environment"],
    ["attic/a.ts", "", "attic is no room of the architecture"],
  ])("%s: %s", (path, text, problem) => {
    expect(violations(path, text)).toEqual([`src/${path}: ${problem}`]);
  });
});

/** What is wrong with a file; `path` is relative to src/, with slashes. */
function violations(path: string, text: string): string[] {
  const room = roomOf(path);
  const allowed = MAY_IMPORT[room];
  if (!allowed) return [`src/${path}: ${room} is no room of the architecture`];

  const problems = importsOf(text).flatMap((specifier) => {
    if (specifier.startsWith(".")) {
      const target = posix.normalize(posix.join("src", posix.dirname(path), specifier));
      if (!/^(src|gen)\//.test(target)) return [`src must not import ${target}`];
      const other = target.startsWith("gen/") ? "gen" : roomOf(target.slice("src/".length));
      const fine = other === room || allowed.includes(other) || EXCEPTIONS[path]?.includes(other);
      return fine ? [] : [`${room} must not import ${other}`];
    }
    const owned = Object.keys(OWNER).find((name) => specifier === name || specifier.startsWith(`${name}/`));
    if (owned && BORROWED[path]?.includes(owned)) return [];
    return owned && OWNER[owned] !== room ? [`${owned} belongs to ${OWNER[owned]}`] : [];
  });

  const code = text.replace(/^\s*(?:\*|\/\/|\/\*).*$/gm, "");
  const readsEnvironment = /\bprocess\.env\b|\benv\b[^;"]*\bfrom "node:process"/.test(code);
  if (readsEnvironment && room !== "config") problems.push("config alone reads the environment");
  return problems.map((problem) => `src/${path}: ${problem}`);
}

/** `store` for `store/schema.ts`, `app` for `app.ts`. */
function roomOf(path: string): string {
  return path.replace(/(\/.*|\.ts)$/s, "");
}

/** Everything that the text imports or exports from, by its specifier. */
function importsOf(text: string): string[] {
  // Statements begin a line, so a comment that speaks of an import is none.
  const statements = text.matchAll(/^(?:import|export)\b(?:[^;"]*?\bfrom)?\s*"([^"]+)"/gm);
  const calls = text.matchAll(/\bimport\(\s*"([^"]+)"/g);
  return [...statements, ...calls].map((match) => match[1] ?? "");
}
