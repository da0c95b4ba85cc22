/** nginx in front, as a sidecar that ends mTLS: what it says of whom it has seen arrives, and what clients say of themselves does not. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import type http from "node:http";
import https from "node:https";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import * as grpc from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { recordingScheme, sha256 } from "../e2e/recording-scheme.ts";
import { startTestApp, type TestApp } from "../e2e/running-app.ts";
import { temporaryDirectory } from "../setup/pglite-template.ts";
import { stablePort } from "../setup/stable-port.ts";
import { createTestAuthority, type Issued } from "../setup/test-authority.ts";

const NGINX = "/usr/sbin/nginx";
const isThere = existsSync(NGINX);
if (!isThere) console.warn(`Not run: nginx as a sidecar. Install nginx-light, which is ${NGINX}.`);

const FORGED = 'URI="spiffe://mesh.example.com/admin"';
const LIST_TASKS = "/lf.a2a.v1.A2AService/ListTasks";

describe.skipIf(!isThere)("nginx as a sidecar", () => {
  const scheme = recordingScheme();
  let folder: string;
  let app: TestApp;
  let nginx: ChildProcess;
  let ca: string;
  let client: Issued;
  let stranger: Issued;
  /** Ports of nginx: to the listeners' ports, and to their Unix sockets. */
  let ports: { loopback: number; unix: number };

  beforeAll(async () => {
    folder = await temporaryDirectory();
    const authority = await createTestAuthority();
    ca = authority.ca;
    const server = await authority.issue("nginx");
    client = await authority.issue("client", { uri: "spiffe://mesh.example.com/client" });
    stranger = await (await createTestAuthority()).issue("stranger");
    await writeFile(join(folder, "tls.crt"), server.cert);
    await writeFile(join(folder, "tls.key"), server.key);
    await writeFile(join(folder, "ca.pem"), ca);
    const sockets = { http: join(folder, "h.sock"), grpc: join(folder, "g.sock") };
    app = await startTestApp({
      schemes: [scheme],
      flags: {
        "auth.anonymous-role": "none",
        "auth.trusted-proxies": "unix,loopback",
        "tls.trust-domains": "mesh.example",
        "http.socket": sockets.http,
        "grpc.socket": sockets.grpc,
      },
    });
    ports = { loopback: await stablePort(), unix: await stablePort() };
    await mkdir(join(folder, "tmp"));
    const http1 = new URL(app.httpUrl).host;
    const conf = configuration(folder, [
      { port: ports.loopback, http: `http://${http1}`, grpc: `grpc://${app.grpcAddress}` },
      { port: ports.unix, http: `http://unix:${sockets.http}`, grpc: `grpc://unix:${sockets.grpc}` },
    ]);
    await writeFile(join(folder, "nginx.conf"), conf);
    nginx = spawn(NGINX, ["-p", folder, "-c", join(folder, "nginx.conf"), "-e", "stderr"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    nginx.stderr?.setEncoding("utf8").on("data", (more) => {
      said += more;
    });
    const over = once(nginx, "exit").then(() => {
      throw new Error(`nginx did not start: ${said}`);
    });
    over.catch(() => {});
    for (const port of Object.values(ports)) await Promise.race([over, reachable(port)]);
  });
  afterAll(async () => {
    if (nginx && nginx.exitCode === null) {
      nginx.kill("SIGTERM");
      await once(nginx, "exit");
    }
    await app?.stop();
    if (folder) await rm(folder, { recursive: true, force: true });
  });

  const forwarded = () => `Cert="${encodeURIComponent(client.cert.replaceAll("\r", ""))}"`;
  /** What was forwarded, whatever way of percent encoding was chosen. */
  const plain = (header: string | null) =>
    decodeURIComponent(header ?? "")
      .replaceAll("\n", "")
      .replaceAll("\r", "");

  function check(via: "loopback" | "unix", facts: object): void {
    const told = scheme.last();
    expect(told).toMatchObject({
      ...facts,
      isLocalSocket: via === "unix",
      address: via === "unix" ? undefined : "127.0.0.1",
      // The connection is nginx's, which shows none.
      certificate: undefined,
    });
    expect(plain(told.forwarded)).toBe(plain(forwarded()));
    expect(told.forwarded).not.toContain("spiffe");
    // What nginx says is one element, whatever the certificate holds.
    expect(told.forwarded).toMatch(/^Cert="[A-Za-z0-9%._~+-]+"$/);
  }

  test.each(["loopback", "unix"] as const)("over %s passes on whose certificate it saw, over HTTP", async (via) => {
    const body = '{"jsonrpc":"2.0","id":1,"method":"ListTasks"}';
    const options = { host: "127.0.0.1", port: ports[via], path: "/rpc?x=1", method: "POST", agent: false };
    const headers = { "content-type": "application/json", "x-forwarded-client-cert": FORGED };
    const sent = https.request({ ...options, ca, cert: client.cert, key: client.key, headers }).end(body);
    const [response] = (await once(sent, "response")) as [http.IncomingMessage];
    expect(JSON.parse(await text(response))).toMatchObject({ result: {} });
    check(via, { method: "POST", target: "/rpc?x=1", digest: sha256(Buffer.from(body)) });
  });

  test.each(["loopback", "unix"] as const)("over %s passes on whose certificate it saw, over gRPC", async (via) => {
    const credentials = grpc.credentials.createSsl(Buffer.from(ca), Buffer.from(client.key), Buffer.from(client.cert));
    const open = new grpc.Client(`127.0.0.1:${ports[via]}`, credentials);
    const metadata = new grpc.Metadata();
    metadata.set("x-forwarded-client-cert", FORGED);
    const asIs = (bytes: Buffer) => bytes;
    try {
      await new Promise<void>((resolve, reject) => {
        open.makeUnaryRequest(LIST_TASKS, asIs, asIs, Buffer.alloc(0), metadata, (error) =>
          error ? reject(error) : resolve(),
        );
      });
    } finally {
      open.close();
    }
    check(via, { method: "POST", target: LIST_TASKS, digest: sha256(Buffer.alloc(5)) });
  });

  test.each(["loopback", "unix"] as const)("over %s lets nobody through without a good certificate", async (via) => {
    const before = scheme.told.length;
    for (const shown of [{}, { cert: stranger.cert, key: stranger.key }]) {
      const options = { host: "127.0.0.1", port: ports[via], path: "/tasks", agent: false };
      const sent = https.request({ ...options, ca, ...shown, headers: { "x-forwarded-client-cert": FORGED } }).end();
      const [response] = (await once(sent, "response")) as [http.IncomingMessage];
      response.resume();
      expect(response.statusCode).toBe(400);
    }
    expect(scheme.told.length).toBe(before);
  });

  test("is not what says who calls to who comes past it", async () => {
    await fetch(`${app.httpUrl}/tasks`, { headers: { "x-forwarded-client-cert": FORGED } });
    // The header is told with the peer that sent it: who it is believed of is the scheme's to say.
    expect(scheme.last()).toMatchObject({ forwarded: FORGED, address: "127.0.0.1", isLocalSocket: false });
  });
});

function configuration(folder: string, servers: { port: number; http: string; grpc: string }[]): string {
  const blocks = servers.map(
    ({ port, http: toHttp, grpc: toGrpc }) => `
  server {
    listen 127.0.0.1:${port} ssl http2;
    ssl_certificate ${folder}/tls.crt;
    ssl_certificate_key ${folder}/tls.key;
    ssl_client_certificate ${folder}/ca.pem;
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_buffering off;
    location / {
      proxy_pass ${toHttp};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Client-Cert "Cert=\\"$ssl_client_escaped_cert\\"";
    }
    location ~ ^/(lf\\.a2a\\.v1|signalbox\\.v1|grpc\\.health\\.v1)\\. {
      grpc_pass ${toGrpc};
      grpc_set_header X-Forwarded-Client-Cert "Cert=\\"$ssl_client_escaped_cert\\"";
    }
  }`,
  );
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (name) => `  ${name}_temp_path ${folder}/tmp/${name};`,
  );
  return [
    "daemon off;",
    // One process, of the user who runs the test: the Unix sockets are that user's.
    "master_process off;",
    `pid ${folder}/nginx.pid;`,
    "error_log stderr;",
    "events { worker_connections 256; }",
    "http {",
    "  access_log off;",
    ...temporary,
    ...blocks,
    "}",
    "",
  ].join("\n");
}

/** Resolves when something makes handshakes at a port. */
async function reachable(port: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const socket = tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
      try {
        await once(socket, "secureConnect");
      } finally {
        socket.destroy();
      }
    },
    { timeout: 20_000 },
  );
}
