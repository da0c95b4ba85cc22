/** TLS and mTLS on both listeners: what is spoken, who is let in, and certificates that change while calls go on. */
import { once } from "node:events";
import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { createSignalboxClient } from "../../src/sdk/client.ts";
import { temporaryDirectory } from "../setup/pglite-template.ts";
import { createTestAuthority, type Issued, type TestAuthority } from "../setup/test-authority.ts";
import { recordingScheme } from "./recording-scheme.ts";
import { runCommand, startTestApp, type TestApp } from "./running-app.ts";

const LIST_TASKS = "/lf.a2a.v1.A2AService/ListTasks";
const scheme = recordingScheme();
let authority: TestAuthority;
let server: Issued;
let known: Issued;
let folder: string;
let app: TestApp;

const file = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await temporaryDirectory();
  authority = await createTestAuthority();
  server = await authority.issue("server");
  known = await authority.issue("client", { uri: "spiffe://mesh.example.com/client" });
  await writeFile(file("cert.pem"), server.cert);
  await writeFile(file("key.pem"), server.key);
  await writeFile(file("ca.pem"), authority.ca);
  await writeFile(file("crl.pem"), await authority.revoke());
  await writeFile(file("known.pem"), known.cert);
  await writeFile(file("known-key.pem"), known.key);
  app = await startTestApp({ schemes: [scheme], flags: flags() });
});
afterAll(async () => {
  await app?.stop();
  await rm(folder, { recursive: true, force: true });
});

const flags = (more: Record<string, string> = {}) => ({
  "tls.certificate": file("cert.pem"),
  "tls.key": file("key.pem"),
  "tls.client-ca": file("ca.pem"),
  "tls.client-crl": file("crl.pem"),
  ...more,
});

const portOf = (which: "http" | "grpc", { httpUrl, grpcAddress }: TestApp = app) =>
  Number(which === "http" ? new URL(httpUrl).port : grpcAddress.split(":").pop());

/** A handshake, and what came of it once the server has let the connection in, or has not. */
async function shake(which: "http" | "grpc", options: tls.ConnectionOptions = {}, of: TestApp = app) {
  const socket = tls.connect({ host: "127.0.0.1", port: portOf(which, of), ca: authority.ca, ...options });
  try {
    await once(socket, "secureConnect");
    const facts = { alpn: socket.alpnProtocol, protocol: socket.getProtocol(), peer: socket.getPeerX509Certificate() };
    // With TLS 1.3 the server judges a client's certificate after the client has done its part.
    const first = once(socket, "data").then(() => true);
    const over = once(socket, "close").then(() => false);
    first.catch(() => {});
    over.catch(() => {});
    socket.write(
      facts.alpn === "h2"
        ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"
        : "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    );
    return { ...facts, isIn: await Promise.race([first, over]) };
  } catch (error) {
    return { error: error as NodeJS.ErrnoException, peer: undefined, isIn: false };
  } finally {
    socket.destroy();
  }
}

const isIn = async (...given: Parameters<typeof shake>) => (await shake(...given)).isIn;

describe("the handshake", () => {
  test.each([
    ["http", ["h2", "http/1.1"], "h2"],
    ["http", ["http/1.1"], "http/1.1"],
    ["http", undefined, false],
    ["grpc", ["h2"], "h2"],
  ] as const)("of the %s listener with %j speaks %j", async (which, protocols, alpn) => {
    const found = await shake(which, protocols ? { ALPNProtocols: [...protocols] } : {});
    expect(found).toMatchObject({ alpn, protocol: "TLSv1.3", isIn: true });
  });

  test("agrees on nothing that is not spoken", async () => {
    expect(await isIn("http", { ALPNProtocols: ["spdy/3"] })).toBe(false);
    expect(await isIn("grpc", { ALPNProtocols: ["http/1.1"] })).toBe(false);
    expect(await isIn("grpc")).toBe(false);
  });

  test.each(["http", "grpc"] as const)("of the %s listener takes TLS 1.2, and nothing older", async (which) => {
    const ALPNProtocols = ["h2"];
    const version = (v: tls.SecureVersion) => ({ minVersion: v, maxVersion: v, ALPNProtocols });
    expect(await shake(which, version("TLSv1.2"))).toMatchObject({ protocol: "TLSv1.2", isIn: true });
    const old = await shake(which, { ...version("TLSv1.1"), ciphers: "DEFAULT@SECLEVEL=0" });
    expect(old.error?.code).toMatch(/PROTOCOL_VERSION|ECONNRESET/);
    const weak = { maxVersion: "TLSv1.2", ciphers: "ECDHE-ECDSA-AES128-SHA", ALPNProtocols } as const;
    expect((await shake(which, weak)).error).toBeDefined();
  });

  test.each(["http", "grpc"] as const)("is all that the %s listener speaks on its port", async (which) => {
    const socket = net.connect(portOf(which), "127.0.0.1").setEncoding("latin1");
    let said = "";
    socket.on("data", (text) => {
      said += text;
    });
    socket.on("error", () => {});
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    await once(socket, "close");
    // An alert at most.
    expect(said.length).toBeLessThan(16);
  });
});

describe.each(["http", "grpc"] as const)("a client's certificate on the %s listener", (which) => {
  const ALPNProtocols = ["h2"];
  const shown = ({ cert, key }: Issued) => ({ cert, key, ALPNProtocols });

  test("is not needed where it is accepted, and must be good where it is shown", async () => {
    const [expired, early, strangers] = await Promise.all([
      authority.issue("expired", { fromMs: -7_200_000, untilMs: -3_600_000 }),
      authority.issue("early", { fromMs: 3_600_000, untilMs: 7_200_000 }),
      createTestAuthority().then((other) => other.issue("stranger")),
    ]);
    expect(await isIn(which, { ALPNProtocols })).toBe(true);
    expect(await isIn(which, shown(known))).toBe(true);
    expect(await isIn(which, shown(expired))).toBe(false);
    expect(await isIn(which, shown(early))).toBe(false);
    expect(await isIn(which, shown(strangers))).toBe(false);
    // The same with TLS 1.2, where the handshake itself ends so.
    expect(await isIn(which, { ...shown(known), maxVersion: "TLSv1.2" })).toBe(true);
    expect(await isIn(which, { ...shown(strangers), maxVersion: "TLSv1.2" })).toBe(false);
  });

  test("must be there where it is required, and not be revoked", async () => {
    const revoked = await authority.issue("revoked");
    await writeFile(file(`${which}-crl.pem`), await authority.revoke(revoked.serialNumber));
    const strict = await startTestApp({
      flags: flags({ "tls.client-certificates": "required", "tls.client-crl": file(`${which}-crl.pem`) }),
    });
    onTestFinished(() => strict.stop());
    expect(await isIn(which, { ALPNProtocols }, strict)).toBe(false);
    expect(await isIn(which, shown(known), strict)).toBe(true);
    expect(await isIn(which, shown(revoked), strict)).toBe(false);
    // A list that has it now: the next handshake goes by that, whatever the client remembers of the last one.
    await writeFile(file(`${which}-crl.pem`), await authority.revoke(revoked.serialNumber, known.serialNumber));
    await expect.poll(() => isIn(which, shown(known), strict), { timeout: 15_000 }).toBe(false);
  });
});

describe("a call over TLS", () => {
  const certificate = () => known.raw.toString("base64");

  test("tells the certificate over HTTP/1.1 and HTTP/2", async () => {
    const { cert, key } = known;
    const options = { host: "127.0.0.1", port: portOf("http"), path: "/tasks", ca: authority.ca, cert, key };
    const sent = https.request({ ...options, agent: false }).end();
    const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
    await text(response);
    expect(scheme.last()).toMatchObject({ certificate: certificate(), address: "127.0.0.1", target: "/tasks" });

    const session = http2.connect(app.httpUrl, { ca: authority.ca, cert, key });
    const stream = session.request({ ":path": "/tasks" });
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    session.destroy();
    expect(headers[":status"]).toBe(200);
    expect(scheme.last()).toMatchObject({ certificate: certificate(), target: "/tasks" });
  });

  test("tells the certificate over gRPC", async () => {
    await callGrpc(
      app,
      grpc.credentials.createSsl(Buffer.from(authority.ca), Buffer.from(known.key), Buffer.from(known.cert)),
    );
    expect(scheme.last()).toMatchObject({ certificate: certificate(), address: "127.0.0.1", target: LIST_TASKS });
  });

  test("works from the SDK and the command line", async () => {
    const { cert, key } = known;
    const client = createSignalboxClient({ baseUrl: app.httpUrl, tls: { ca: authority.ca, cert, key } });
    await client.a2a.listTasks({});
    expect(scheme.last().certificate).toBe(certificate());
    const args = [
      "agents",
      "list",
      "--ca",
      file("ca.pem"),
      "--cert",
      file("known.pem"),
      "--cert-key",
      file("known-key.pem"),
    ];
    expect(await runCommand(app.httpUrl, args)).toMatchObject({ code: 0, err: "" });
    expect(scheme.last().certificate).toBe(certificate());
    const env = { SIGNALBOX_SERVER: app.httpUrl, SIGNALBOX_CA: file("ca.pem") };
    expect(await runCommand(app.httpUrl, ["agents", "list"], { env })).toMatchObject({ code: 0 });
    expect(scheme.last().certificate).toBeUndefined();
    const untrusting = await runCommand(app.httpUrl, ["agents", "list"]);
    expect(untrusting).toMatchObject({
      code: 1,
      err: expect.stringMatching(/--ca FILE or SIGNALBOX_CA.*\n +SERVER_NOT_TRUSTED/),
    });
    const plain = await runCommand(app.httpUrl.replace("https:", "http:"), ["agents", "list"]);
    expect(plain).toMatchObject({ code: 1, err: expect.stringContaining("If it speaks TLS, write https:// instead.") });
    const half = await runCommand(app.httpUrl, ["agents", "list", "--cert", file("known.pem")]);
    expect(half).toMatchObject({ code: 2, err: expect.stringContaining("--cert-key") });
    const gone = await runCommand(app.httpUrl, ["agents", "list", "--ca", file("gone.pem")]);
    expect(gone).toMatchObject({ code: 2, err: expect.stringContaining("does not exist") });
  });

  test("is what cards advertise", async () => {
    const sent = https.request(`${app.httpUrl}/.well-known/agent-card.json`, { ca: authority.ca, agent: false }).end();
    const [response] = (await once(sent, "response")) as [import("node:http").IncomingMessage];
    const card = JSON.parse(await text(response)) as {
      supportedInterfaces: { url: string; protocolBinding: string }[];
    };
    expect(card.supportedInterfaces.map(({ url }) => url)).toEqual([
      app.httpUrl,
      app.httpUrl,
      `https://${app.grpcAddress}`,
    ]);
    expect(app.httpUrl).toMatch(/^https:/);
  });
});

describe("certificates that change", () => {
  /** A folder as Kubernetes makes one: links to a link to the folder with the files, which is swapped. */
  async function mounted(first: Issued) {
    const at = join(await temporaryDirectory(), "tls");
    onTestFinished(() => rm(join(at, ".."), { recursive: true, force: true }));
    let version = 0;
    const put = async (cert: string, key: string) => {
      version++;
      await mkdir(join(at, `..v${version}`), { recursive: true });
      await writeFile(join(at, `..v${version}`, "tls.crt"), cert);
      await writeFile(join(at, `..v${version}`, "tls.key"), key);
      await symlink(`..v${version}`, join(at, "..next"));
      await rename(join(at, "..next"), join(at, "..data"));
    };
    await put(first.cert, first.key);
    for (const name of ["tls.crt", "tls.key"]) await symlink(`..data/${name}`, join(at, name));
    return { put, "tls.certificate": join(at, "tls.crt"), "tls.key": join(at, "tls.key") };
  }

  const serialOf = async (which: "http" | "grpc", of: TestApp) =>
    (await shake(which, { ALPNProtocols: ["h2"] }, of)).peer?.serialNumber.replace(/^0+/, "");

  test("are taken over by new connections without a failed call; bad ones are not", async () => {
    const { put, ...paths } = await mounted(server);
    const serving = await startTestApp({ flags: paths });
    onTestFinished(() => serving.stop());
    const session = http2.connect(serving.httpUrl, { ca: authority.ca });
    onTestFinished(() => session.destroy());
    const get = async (path: string) => {
      const stream = session.request({ ":path": path }).setEncoding("utf8");
      const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
      return { status: headers[":status"], body: await text(stream) };
    };
    const metric = async (name: string) => {
      const { body } = await get("/metrics");
      return Number(
        body
          .split("\n")
          .find((line) => line.startsWith(name))
          ?.slice(name.length),
      );
    };
    const reloads = (result: string) => metric(`signalbox_tls_reloads_total{result="${result}"} `);

    /** Calls over connections of their own, and over one that stays, until told to end. */
    let isOver = false;
    let calls = 0;
    const load = Array.from({ length: 3 }, async () => {
      while (!isOver) {
        const credentials = grpc.credentials.createSsl(Buffer.from(authority.ca));
        await Promise.all([
          callGrpc(serving, credentials),
          createSignalboxClient({ baseUrl: serving.httpUrl, tls: { ca: authority.ca } }).a2a.listTasks({}),
          get("/tasks").then(({ status }) => expect(status).toBe(200)),
        ]);
        calls++;
      }
    });

    const expiry = await metric("signalbox_tls_certificate_expiry_timestamp_seconds ");
    expect(expiry).toBeGreaterThan(Date.now() / 1000);
    for (let turn = 1; turn <= 3; turn++) {
      const next = await authority.issue(`server ${turn}`, { untilMs: 3_600_000 * (turn + 1) });
      const begun = calls;
      await put(next.cert, next.key);
      const serial = next.serialNumber.replace(/^0+/, "");
      await expect.poll(() => serialOf("http", serving), { timeout: 20_000 }).toBe(serial);
      expect(await serialOf("grpc", serving)).toBe(serial);
      await expect.poll(() => calls, { timeout: 20_000 }).toBeGreaterThan(begun + 3);
      expect(await reloads("loaded")).toBe(turn);
    }
    expect(await metric("signalbox_tls_certificate_expiry_timestamp_seconds ")).toBeGreaterThan(expiry + 3_600);

    const last = await serialOf("http", serving);
    await put(server.cert, known.key);
    await expect.poll(() => reloads("refused"), { timeout: 20_000 }).toBe(1);
    await put("no certificate", server.key);
    await expect.poll(() => reloads("refused"), { timeout: 20_000 }).toBe(2);
    expect(await serialOf("http", serving)).toBe(last);
    isOver = true;
    await Promise.all(load);
  }, 120_000);

  test("must be good at the start", async () => {
    const start = (more: Record<string, string>) => startTestApp({ flags: flags(more) });
    await expect(start({ "tls.key": file("known-key.pem") })).rejects.toThrow(
      /tls\.key: .* is not the key of tls\.certificate/,
    );
    await expect(start({ "tls.certificate": file("key.pem") })).rejects.toThrow(
      /tls\.certificate: .* holds no PEM cert/,
    );
    await expect(start({ "tls.client-crl": file("key.pem") })).rejects.toThrow(
      /tls\.client-crl: .* holds no PEM revocation/,
    );
  });
});

/** One unary call over a connection of its own. */
async function callGrpc(of: TestApp, credentials: grpc.ChannelCredentials): Promise<void> {
  const client = new grpc.Client(of.grpcAddress, credentials, { "grpc.use_local_subchannel_pool": 1 });
  const asIs = (bytes: Buffer) => bytes;
  try {
    await new Promise<void>((resolve, reject) => {
      client.makeUnaryRequest(LIST_TASKS, asIs, asIs, Buffer.alloc(0), (error) => (error ? reject(error) : resolve()));
    });
  } finally {
    client.close();
  }
}
