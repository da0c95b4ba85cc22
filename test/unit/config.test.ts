import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { configurationPage } from "../../scripts/write-config-docs.ts";
import { ConfigError } from "../../src/config/config-error.ts";
import { type ConfigSources, loadConfig, serverUrl } from "../../src/config/load.ts";
import { maskedUrl } from "../../src/config/masked-url.ts";
import { PACKAGE_VERSION } from "../../src/config/package.ts";
import { environmentName, flagName, SETTING_KEYS } from "../../src/config/settings.ts";

let cwd: string;

beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "signalbox-config-"));
});

afterEach(() => {
  rmSync(cwd, { recursive: true });
});

const load = (sources: ConfigSources = {}, yaml?: string) => {
  if (yaml !== undefined) writeFileSync(join(cwd, "signalbox.yaml"), yaml);
  return loadConfig({ env: {}, cwd, ...sources });
};

/** The mistakes, as "where: message". */
function mistakes(sources: ConfigSources = {}, yaml?: string): string[] {
  try {
    load(sources, yaml);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ where, message }) => `${where}: ${message}`);
    throw error;
  }
  return [];
}

describe("sources", () => {
  test("nothing given: the defaults", () => {
    expect(load()).toMatchObject({
      config: undefined,
      host: "127.0.0.1",
      http: { port: 8080, basePath: "", corsOrigins: [], compress: false },
      grpc: { port: 50051 },
      database: { url: undefined, poolSize: 10 },
      data: { dir: join(cwd, ".signalbox") },
      limits: { messageBytes: 4_194_304, runningTasks: 10_000, queue: 10_000 },
      allowPrivateUrls: true,
      card: { name: "Signalbox", version: PACKAGE_VERSION, extended: undefined },
    });
  });

  test("flags win over environment over file over the program's defaults over the table's", () => {
    const yaml = "http.port: 3\ngrpc: {port: 3}\nlog: {level: error}";
    const env = { SIGNALBOX_HTTP_PORT: "2", SIGNALBOX_GRPC_PORT: "2", SIGNALBOX_DRAIN_MS: "" };
    const defaults = { "log.level": "warn", "drain.ms": 7 } as const;
    const config = load({ flags: { "http.port": "1" }, env, defaults }, yaml);
    expect(config.http.port).toBe(1);
    expect(config.grpc.port).toBe(2);
    expect(config.log.level).toBe("error");
    expect(config.drain.ms).toBe(7);
    expect(config.push.attempts).toBe(5);
  });

  test("each kind of value reads the same from a flag, a variable and the file", () => {
    const yaml = `
http: { compress: true, cors-origins: ["https://a.example", "http://b.example:81"] }
public: { url: "https://box.example/a/", grpc: "[::1]:443" }
`;
    const texts = {
      "http.compress": "true",
      "http.cors-origins": "https://a.example, http://b.example:81",
      "public.url": "https://box.example/a/",
      "public.grpc": "[::1]:443",
    };
    const env = Object.fromEntries(Object.entries(texts).map(([key, value]) => [environmentName(key), value]));
    const fromFlags = load({ flags: { ...texts, "http.compress": true } });
    expect(fromFlags.http.corsOrigins).toEqual(["https://a.example", "http://b.example:81"]);
    expect(fromFlags.public.url).toBe("https://box.example/a");
    expect(load({ env })).toEqual(fromFlags);
    expect({ ...load({}, yaml), config: undefined }).toEqual(fromFlags);
  });

  test("relative paths start from the working folder, in the file from the file's", () => {
    mkdirSync(join(cwd, "etc"));
    writeFileSync(join(cwd, "etc", "box.yaml"), "data: {dir: data}\ncard: {extended: card.json}");
    writeFileSync(join(cwd, "etc", "card.json"), "{}");
    const config = load({ env: { SIGNALBOX_CONFIG: "etc/box.yaml" } });
    expect(config.config).toBe(join(cwd, "etc", "box.yaml"));
    expect(config.data.dir).toBe(join(cwd, "etc", "data"));
    expect(config.card.extended).toBe(join(cwd, "etc", "card.json"));
    expect(load({ flags: { "data.dir": "here" } }).data.dir).toBe(join(cwd, "here"));
  });

  test("a file of comments and empty sections changes nothing", () => {
    const defaults = load();
    expect({ ...load({}, "# all of it\nhttp:\n  # port: 1\n"), config: undefined }).toEqual(defaults);
    expect({ ...load({}, ""), config: undefined }).toEqual(defaults);
  });
});

describe("mistakes", () => {
  test("of all sources come at once, each with place and remedy, also where a stronger source hides one", () => {
    const yaml = "http:\n  prot: 8080\n  port: abc\n  cors-origins: [https://ok.example, nope]\nlog: {level: loud}\n";
    const env = { SIGNALBOX_HTTP_PORT: "81", SIGNALBOX_GRPC_PORT: "65536", SIGNALBOX_DATA_DRI: "x" };
    expect(mistakes({ env, flags: { "push.attempts": "0", "http.compress": "maybe" } }, yaml).sort()).toEqual([
      '--http-compress: http.compress is "maybe": it takes true or false.',
      "--push-attempts: push.attempts is 0: it takes a whole number from 1 to 100.",
      "SIGNALBOX_DATA_DRI: There is no such setting. Did you mean SIGNALBOX_DATA_DIR?",
      "SIGNALBOX_GRPC_PORT: grpc.port is 65536: it takes a whole number from 0 to 65535.",
      "signalbox.yaml:2:3: There is no setting http.prot. Did you mean http.port?",
      'signalbox.yaml:3:9: http.port is "abc": it takes a whole number from 0 to 65535.',
      'signalbox.yaml:4:17: http.cors-origins is "nope": it takes origins such as https://app.example.com, or * for all.',
      'signalbox.yaml:5:14: log.level is "loud": it takes one of fatal, error, warn, info, debug, trace, silent.',
    ]);
  });

  test.each([
    ["http: 8080", "signalbox.yaml:1:1: http is a section, not a setting. In it are http.port,"],
    ["http:\n  port:\n", "signalbox.yaml:2:3: http.port has no value."],
    ["http.port: 1\nhttp: {port: 2}", "signalbox.yaml:2:14: http.port is given twice."],
    ["host: {a: 1}", "signalbox.yaml:1:7: host is a section: it takes an IP address"],
    ["card: {version: 1.0}", "signalbox.yaml:1:17: card.version is 1: it takes text, in quotes here."],
    ["config: other.yaml", "signalbox.yaml:1:1: config cannot be set in the file itself. Use --config"],
    ["a: 1\na: 2", "signalbox.yaml:2:1: This is no valid YAML: Map keys must be unique"],
    ["- 1", "signalbox.yaml:1:1: The file must hold settings"],
    ["zebra: 1", "signalbox.yaml:1:1: There is no setting zebra. `signalbox serve --help` lists them all."],
    ["a: &a {b: *a}", "signalbox.yaml:1:8: There is no setting a.b.b."],
    ["http: {port: 9, cors-origins: https://a.example}", "signalbox.yaml:1:31: http.cors-origins is"],
    ["grpc: {port: 8080}", "signalbox.yaml:1:14: grpc.port and http.port are both 8080."],
    [
      "card: {provider-url: 'https://a.example'}",
      "signalbox.yaml:1:22: card.provider-url needs card.provider-organization",
    ],
    [
      "workers: 2",
      "signalbox.yaml:1:10: workers is 2, and the database is PGlite, which one process has to itself. Set database.url",
    ],
    ["card: {extended: gone.json}", "signalbox.yaml:1:18: "],
  ])("%s", (yaml, expected) => {
    const found = mistakes({}, yaml);
    expect(found).toHaveLength(1);
    expect(found[0]?.slice(0, expected.length)).toBe(expected);
  });

  test.each(["0.0.0.0", "::", "192.168.1.4", "box.example"])(
    "host %s lets nobody in who does not say who it is",
    (host) => {
      expect(load({ flags: { host } }).auth).toMatchObject({ anonymousRole: "none", openMetrics: false });
      const flags = { host, "auth.anonymous-role": "viewer" };
      expect(mistakes({ flags })).toEqual([
        expect.stringMatching(/^--auth-anonymous-role: .*lets anybody in there as viewer.*auth\.expose-anonymous/),
      ]);
      expect(load({ flags: { ...flags, "auth.expose-anonymous": "true" } }).auth.anonymousRole).toBe("viewer");
    },
  );

  test.each(["127.0.0.2", "::1", "localhost"])("host %s is loopback", (host) => {
    expect(load({ flags: { host } }).host).toBe(host);
  });

  test("a file that is named and missing, and flags that do not exist", () => {
    expect(mistakes({ flags: { config: "gone.yaml", "http.prot": "1" } })).toEqual([
      "--http-prot: There is no such flag. Did you mean --http-port?",
      `--config: ${join(cwd, "gone.yaml")} does not exist. Name a file that can be read.`,
    ]);
  });

  test("what others put into the environment is none", () => {
    const env = { SIGNALBOX_PORT: "tcp://10.0.0.1:80", SIGNALBOX_SERVICE_HOST: "10.0.0.1", SIGNALBOX_SERVER: "x" };
    expect(mistakes({ env })).toEqual([]);
  });

  test("addresses of NATS are several, by nats: or tls:, and what is wrong with one does not show it", () => {
    const given = (url: string) => ({ flags: { "nats.url": url } });
    const good = "nats://a, tls://me:p%2C@b:4333,nats://token@[::1]";
    expect(load(given(good)).nats.url).toBe(good);
    for (const bad of [
      "",
      "a:4222",
      "ws://hunter2@a",
      "http://hunter2@a",
      "nats://hunter2%@a",
      "nats://a,,nats://hunter2@b",
    ]) {
      const [found, ...more] = mistakes(given(bad));
      expect(found).toContain("nats-url");
      expect(found).not.toContain("hunter2");
      expect(more).toEqual([]);
    }
  });

  test("no password is ever shown", () => {
    for (const url of ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "hunter2"]) {
      const sources = { env: { SIGNALBOX_DATABASE_URL: url }, flags: { "database.url": url } };
      const found = mistakes(sources, `database: {url: "${url}"}`);
      expect(found).toHaveLength(3);
      expect(found.join("\n")).not.toContain("hunter2");
    }
    expect(maskedUrl("postgres://u:hunter2@h/d?sslmode=require&sslpassword=hunter2")).toBe(
      "postgres://u:***@h/d?sslmode=require&sslpassword=***",
    );
    expect(maskedUrl("hunter2")).not.toContain("hunter2");
  });

  test("whatever the file holds, either a configuration or a ConfigError comes of it", () => {
    const words = fc.constantFrom(
      "http",
      "port",
      "http.port",
      "card",
      ":",
      " ",
      "\n",
      "  ",
      "- ",
      "{",
      "}",
      "[",
      "]",
      "*a",
      "&a",
      "1",
      "'",
      "!x",
      "? ",
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(words).map((list) => list.join("")),
        ),
        (yaml) => {
          mistakes({}, yaml);
        },
      ),
    );
  });
});

test("every setting has one name in each source", () => {
  expect(new Set(SETTING_KEYS.map(environmentName)).size).toBe(SETTING_KEYS.length);
  expect(new Set(SETTING_KEYS.map(flagName)).size).toBe(SETTING_KEYS.length);
  expect(environmentName("http.base-path")).toBe("SIGNALBOX_HTTP_BASE_PATH");
  expect(flagName("http.base-path")).toBe("--http-base-path");
});

test("the server's address for client commands", () => {
  expect(serverUrl(undefined, {})).toBe("http://127.0.0.1:8080");
  expect(serverUrl(undefined, { SIGNALBOX_SERVER: "https://box.example/" })).toBe("https://box.example");
  expect(serverUrl("http://a:1", { SIGNALBOX_SERVER: "https://box.example/" })).toBe("http://a:1");
  expect(() => serverUrl("localhost:8080", {})).toThrow(/--server: .*http:\/\//);
});

test("docs/configuration.md is what scripts/write-config-docs.ts writes", () => {
  const committed = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");
  expect(committed).toBe(configurationPage());
});
