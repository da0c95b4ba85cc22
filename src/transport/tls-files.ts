/**
 * The certificate of the listeners, and who signs those of clients: read from files, and read again when they change. Connections that
 * are open go on with what they began with.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { Logger } from "pino";
import { SignalboxError } from "../domain/errors.ts";

export interface TlsPaths {
  certificate: string;
  key: string;
  /** Undefined: clients are not asked for certificates. */
  clientCa: string | undefined;
  clientCrl: string | undefined;
}

export interface TlsFilesDeps {
  paths: TlsPaths;
  log: Logger;
  /** Told of each change that was found. */
  onReload: (result: "loaded" | "refused") => void;
  /** How often the files are read beside what the file system tells, in milliseconds. Default 10 s. */
  pollMs?: number;
}

export interface TlsFiles {
  /** What handshakes go by. */
  readonly context: SecureContextOptions;
  /** When the certificate ends, in seconds since 1970. */
  readonly expiresAt: number;
  /** `listener` is told of each change that is good. */
  onChange(listener: (context: SecureContextOptions) => void): void;
  stop(): void;
}

/** What the file system tells comes several times, and between two files that belong together. */
const SETTLE_MS = 200;

/** Forward secrecy and authenticated encryption, and nothing else: TLS 1.3, and of 1.2 what HTTP/2 allows. */
const CIPHERS = [
  "TLS_AES_128_GCM_SHA256",
  "TLS_AES_256_GCM_SHA384",
  "TLS_CHACHA20_POLY1305_SHA256",
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
].join(":");

interface Loaded {
  context: SecureContextOptions;
  expiresAt: number;
  /** The files as they were read. */
  contents: readonly Buffer[];
}

/** Throws SignalboxError, reason TLS_UNUSABLE, naming the setting whose file cannot be used. */
export async function openTlsFiles({ paths, log, onReload, pollMs = 10_000 }: TlsFilesDeps): Promise<TlsFiles> {
  let loaded = await load(paths);
  warnOfEnd(loaded, log);
  const listeners: ((context: SecureContextOptions) => void)[] = [];
  /** What was found to be bad last, so that it is told once. */
  let refused: string | undefined;
  let stopped = false;
  let looking: Promise<void> | undefined;
  let again = false;

  async function look(): Promise<void> {
    try {
      const found = await load(paths);
      refused = undefined;
      if (found.contents.every((content, i) => loaded.contents[i]?.equals(content))) return;
      if (stopped) return;
      loaded = found;
      for (const listener of listeners) listener(found.context);
      onReload("loaded");
      log.info({ expiresAt: new Date(found.expiresAt * 1000) }, "certificates were read anew");
      warnOfEnd(found, log);
    } catch (error) {
      const { message } = error as Error;
      if (stopped || message === refused) return;
      refused = message;
      onReload("refused");
      log.error({ err: error }, "the certificates that have changed cannot be used: those from before stay");
    }
  }

  /** One look at a time; what is told meanwhile makes another one. */
  function wake(): void {
    if (looking) {
      again = true;
      return;
    }
    looking = look().finally(() => {
      looking = undefined;
      if (!again || stopped) return;
      again = false;
      wake();
    });
  }

  let settling: NodeJS.Timeout | undefined;
  const settle = () => {
    clearTimeout(settling);
    if (!stopped) settling = setTimeout(wake, SETTLE_MS).unref();
  };
  const folders = new Set(
    Object.values(paths)
      .filter((path) => path !== undefined)
      .map((path) => dirname(path)),
  );
  const watchers: FSWatcher[] = [];
  for (const folder of folders) {
    try {
      // The folder, not the file: Kubernetes and who renames put another file, or another link, in its place.
      const watcher = watch(folder, { persistent: false }, settle);
      watcher.on("error", () => watcher.close());
      watchers.push(watcher);
    } catch {
      // Not every file system tells. The poll finds what has changed.
    }
  }
  const poll = setInterval(wake, pollMs).unref();

  return {
    get context() {
      return loaded.context;
    },
    get expiresAt() {
      return loaded.expiresAt;
    },
    onChange: (listener) => void listeners.push(listener),
    stop() {
      stopped = true;
      clearInterval(poll);
      clearTimeout(settling);
      for (const watcher of watchers) watcher.close();
    },
  };
}

async function load(paths: TlsPaths): Promise<Loaded> {
  const [cert, key, ca, crl] = await Promise.all([
    read("tls.certificate", paths.certificate),
    read("tls.key", paths.key),
    paths.clientCa === undefined ? undefined : read("tls.client-ca", paths.clientCa),
    paths.clientCrl === undefined ? undefined : read("tls.client-crl", paths.clientCrl),
  ]);
  const certificate = usable("tls.certificate", paths.certificate, "holds no PEM certificate", () => {
    return new X509Certificate(cert);
  });
  const privateKey = usable(
    "tls.key",
    paths.key,
    "holds no PEM private key that can be read without a password",
    () => {
      return createPrivateKey(key);
    },
  );
  if (!certificate.checkPrivateKey(privateKey)) {
    throw unusable("tls.key", paths.key, "is not the key of tls.certificate");
  }
  if (ca) usable("tls.client-ca", paths.clientCa!, "holds no PEM certificate", () => new X509Certificate(ca));
  const context: SecureContextOptions = { cert, key, minVersion: "TLSv1.2", ciphers: CIPHERS, honorCipherOrder: true };
  if (ca) context.ca = ca;
  usable("tls.certificate", paths.certificate, "is a certificate that TLS does not take", () => {
    createSecureContext(context);
  });
  if (crl) {
    context.crl = crl;
    usable("tls.client-crl", paths.clientCrl!, "holds no PEM revocation list", () => createSecureContext(context));
  }
  const contents = [cert, key, ca, crl].filter((content) => content !== undefined);
  return { context, expiresAt: certificate.validToDate.getTime() / 1000, contents };
}

async function read(setting: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    throw unusable(setting, path, `cannot be read (${(error as NodeJS.ErrnoException).code})`, error);
  }
}

function usable<T>(setting: string, path: string, why: string, make: () => T): T {
  try {
    return make();
  } catch (error) {
    throw unusable(setting, path, why, error);
  }
}

const unusable = (setting: string, path: string, why: string, cause?: unknown) =>
  new SignalboxError({
    code: "FAILED_PRECONDITION",
    reason: "TLS_UNUSABLE",
    message: `${setting}: ${path} ${why}.`,
    metadata: { setting },
    cause,
  });

function warnOfEnd({ expiresAt }: Loaded, log: Logger): void {
  const facts = { expiresAt: new Date(expiresAt * 1000) };
  if (expiresAt * 1000 <= Date.now())
    log.warn(facts, "the certificate of tls.certificate has expired: clients refuse it");
}
